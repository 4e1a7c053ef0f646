"""`make full-size`: Stable Diffusion at its real widths through the real server: learn, save, apply, draw.

The weights are random, so what is shown is that it runs, how long each stage takes, and the memory of the server; it is
no test of what is learned. Writes build/full_size/report.json after each architecture; `--publish` writes the table to
docs/speed.md too. On a CPU the UNet computes in float32; SDXL's weights, which take 10.3 GB so, are kept in bfloat16
and cast at each use.
"""

import argparse
import json
import shutil
import time
from typing import Any

import numpy as np
import psutil
import torch

from lab.bench import random_checkpoints, speed_tables
from lab.bench.memory import watching
from lab.bench.random_checkpoints import ARCHITECTURES
from lab.harness import base_directory, comfyui, graphs, server
from lab.miniature.exemplars import write_exemplars
from reversion_core.store import relation as relation_files
from reversion_core.store.files import write_whole

REPORT = random_checkpoints.FOLDER / "report.json"
UPDATES, SAMPLING_STEPS = 2, 2
TRAINING = {"preset": "balanced", "steps": UPDATES, "batch_size": 2, "accumulation": 1}
HOURS = 6  # the longest that one stage may take
# One picture at a time, and gradient checkpointing, where two would not fit into a common machine.
MEMORY = {"SDXL": "low"}


def prompts(checkpoint: str, side: int, memory: str) -> dict[str, graphs.Graph]:
    """Stage -> the graph that is queued for it; what an earlier stage made comes from the host's cache."""
    learn = graphs.learn("exemplars", side, checkpoint, **TRAINING, memory=memory)
    text = graphs.node("CLIPTextEncode", text="red circle above blue star", clip=["checkpoint", 1])
    shown = graphs.node("PreviewAny", source=["text", 0])
    draw = graphs.draw("drawn", "red circle <R> blue star", 1, ("apply", 0), SAMPLING_STEPS, side=side)
    return {
        "load, encode a prompt": {"checkpoint": learn["checkpoint"], "text": text, "shown": shown},
        f"learn {UPDATES} updates, save": learn | {"save": graphs.save("full-size")},
        f"apply, draw {SAMPLING_STEPS} steps": learn | {"apply": graphs.apply()} | draw,
    }


def dtype_of(name: str) -> torch.dtype:
    """What a UNet's weights are kept in: the host's choice, but for SDXL on a CPU."""
    if torch.cuda.is_available():
        return torch.float16
    return torch.bfloat16 if name == "SDXL" else torch.float32


def measure(name: str) -> dict[str, Any]:
    """Every stage of one architecture in a server of its own. Raises RuntimeError where a stage gives no numbers."""
    side, checkpoint = ARCHITECTURES[name].side, random_checkpoints.write_checkpoint(name)
    memory, dtype = MEMORY.get(name, "auto"), dtype_of(name)
    base, stages = base_directory.of("full-size"), {}
    shutil.rmtree(base, ignore_errors=True)  # what was learned before would be taken from disk
    options = ["--preview-method", "none", *([] if torch.cuda.is_available() else ["--cpu"])]
    options += ["--bf16-unet"] if dtype == torch.bfloat16 else []
    with server.Server(base, *options, checkpoints=[checkpoint]) as running:
        write_exemplars(running.folder / "input" / "exemplars", "above", 4)
        process = psutil.Process(running.process.pid)
        for stage, prompt in prompts(checkpoint.name, side, memory).items():
            began = time.monotonic()
            with watching(lambda: process.memory_info().rss, 0.05) as peak_rss:
                outputs = running.run(prompt, HOURS * 3600)
            stages[stage] = {"seconds": time.monotonic() - began, "peak_rss": peak_rss[0]}
        picture = running.pixels(outputs, "drawn")
        learned = relation_files.load(running.folder / "models" / "embeddings" / "full-size.safetensors")
        version = running.get("system_stats")["system"]["comfyui_version"]
    _check(picture, side, learned)
    about = {"side": side, "memory": memory, "dtype": str(dtype).removeprefix("torch."), "host": version}
    return about | {"family": learned.family, "stages": stages}


def _check(picture: np.ndarray, side: int, learned: relation_files.Relation) -> None:
    if picture.shape != (side, side, 3) or picture.std() == 0:
        raise RuntimeError(f"the drawn picture is {picture.shape}, spread {picture.std():.1f}")
    if int(learned.metadata["reversion.steps_done"]) != UPDATES:
        raise RuntimeError(f"{learned.metadata['reversion.steps_done']} updates were learned instead of {UPDATES}")
    if not all(vectors.isfinite().all() for vectors in learned.vectors.values()):
        raise RuntimeError("the learned relation has numbers that are not finite")


def too_large(name: str) -> str | None:
    """One sentence where the UNet's weights alone exceed the memory that a CPU run has left, else None."""
    of_unet = (s for key, s in random_checkpoints.shapes(name).items() if key.startswith("model.diffusion_model."))
    dtype, left = dtype_of(name), psutil.virtual_memory().available
    needed = dtype.itemsize * sum(shape.numel() for shape in of_unet)
    if torch.cuda.is_available() or needed < left:
        return None
    return f"{name}: its UNet takes {needed / 1e9:.1f} GB and {left / 1e9:.1f} GB are free; close programs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("architectures", nargs="*", default=list(ARCHITECTURES), help=", ".join(ARCHITECTURES))
    parser.add_argument("--publish", action="store_true", help="write the table to docs/speed.md")
    arguments = parser.parse_args()
    for name in arguments.architectures:
        if name not in ARCHITECTURES:
            parser.error(f"there is no architecture '{name}'; choose from {', '.join(ARCHITECTURES)}")
        if problem := too_large(name):
            parser.error(problem)
    report = json.loads(REPORT.read_text()) if REPORT.exists() else {"architectures": {}}
    report |= {"device": comfyui.device_name(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    for name in arguments.architectures:
        report["architectures"][name] = measure(name)
        write_whole(REPORT, json.dumps(report, indent=1).encode())
    section = speed_tables.of_full_size(report)
    if arguments.publish:
        speed_tables.publish_speed(full_size=section)
    print(section)  # noqa: T201


if __name__ == "__main__":
    main()
