"""What the pack costs beside training, for `make speed`: a relation in a prompt, and the start of the host."""

import statistics
import subprocess
import sys

import torch

from lab.bench.loops import stopwatch
from lab.bench.training_setup import TrainingSetup
from lab.harness import comfyui


def use(rounds: int, sampling_steps: int = 6) -> dict[str, float]:
    """Median seconds of the host's own encode and sample ("host"), and of the same with a relation ("relation")."""
    setup = TrainingSetup()
    import comfy.sample

    vectors = {"clip_l": setup.host.word_rows(setup.clip, "clip_l", ["above"])}
    latent = torch.zeros(1, *setup.mean.shape[1:])
    noise = comfy.sample.prepare_noise(latent, 0)
    times = {"host": [], "relation": []}
    with torch.inference_mode():
        for _ in range(rounds + 1):
            for kind, word in (("host", "above"), ("relation", "<R>")):
                seconds = stopwatch(setup)
                clip = setup.host.with_relation(setup.clip, "<R>", vectors) if kind == "relation" else setup.clip
                positive, negative = (
                    clip.encode_from_tokens_scheduled(clip.tokenize(text))
                    for text in (f"red circle {word} blue star", "")
                )
                comfy.sample.sample(
                    setup.model, noise, sampling_steps, 5.0, "euler", "normal", positive, negative, latent,
                    disable_pbar=True, seed=0,
                )  # fmt: skip
                times[kind].append(seconds())
    return {kind: statistics.median(values[1:]) for kind, values in times.items()}


_IMPORT = """
import time
from lab.harness import comfyui
comfyui.make_importable()
import utils.install_util, server, nodes, comfy_api.latest, comfy.sd
began = time.perf_counter()
module = comfyui.load_pack()
import asyncio
extension = asyncio.run(module.comfy_entrypoint())
asyncio.run(extension.get_node_list())
print("seconds", time.perf_counter() - began)
"""


def import_seconds(rounds: int = 3) -> float:
    """Median seconds that the pack adds to the start of a host whose own modules are loaded."""
    found = []
    for _ in range(rounds):
        output = subprocess.run(
            [sys.executable, "-c", _IMPORT, "--cpu"], cwd=comfyui.ROOT, capture_output=True, text=True, check=True
        ).stdout
        found.append(float(output.split("seconds")[-1]))
    return statistics.median(found)
