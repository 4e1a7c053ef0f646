"""`make speed`: a training step beside the published loop and beside the bare networks; what use and import cost.

What is compared runs in turns in one process, memory in a process of its own for each; ratios are of medians.
Writes build/speed/report.json and prints its table; `--publish` writes it to docs/speed.md too.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import torch

from reversion_core.exemplars import Exemplars
from reversion_core.files import write_whole
from reversion_core.focal import Focal
from reversion_core.settings import PRECISIONS, PRESETS
from reversion_core.steering import Steering

from . import host, pack, server, world
from .loops import Floor, Published

FOLDER = host.ROOT / "build" / "speed"
KINDS = (*PRECISIONS, "published")


def exemplars(count=8):
    rng = np.random.default_rng(4)
    scenes = [world.arrange("above", *world.random_pair(rng), rng) for _ in range(count)]
    captions = tuple((f"{scene.pair[0]} {{}} {scene.pair[1]}",) for scene in scenes)
    return Exemplars(tuple(map(str, range(count))), tuple(map(world.render, scenes)), captions)


class Bench:
    """The miniature as the host loads it, and a training problem at the published setting."""

    def __init__(self, batch_size=2, accumulation=4):
        host.enter()
        import comfy.model_management
        import comfy.sd

        from reversion_core import host as core_host
        from reversion_core import run, trainer

        self.host, self.run, self.trainer = core_host, run, trainer
        self.device = comfy.model_management.get_torch_device()
        path = server.MODELS / server.CHECKPOINT
        pack.write_checkpoint(path)
        with torch.inference_mode():
            self.model, self.clip, self.vae, _ = comfy.sd.load_checkpoint_guess_config(str(path))
        settings = {"batch_size": batch_size, "accumulation": accumulation}
        settings = dataclasses.replace(PRESETS["paper"], **settings)
        self.task = run.Task(exemplars(), settings, Steering(), Focal())
        self.windows = run.check(self.model, self.clip, self.vae, self.task, "speed")[2]
        self.pixels = torch.from_numpy(self.task.exemplars.fitted(world.SIDE))
        with torch.inference_mode():
            self.mean, self.std = core_host.scaled_posterior(self.model, self.vae, self.pixels)
        self.model, self.clip = core_host.load_for_training(self.model, self.clip)

    def borrowing(self, precision="fp32"):
        return self.host.borrowing(self.model, self.clip, self.windows, precision)

    def learner(self, lent):
        problem = self.run.build_problem(self.clip, self.task, self.mean, self.std)
        initial = {"clip_l": self.host.word_rows(self.clip, "clip_l", [self.task.settings.initial_word]).cpu()}
        return self.trainer.Learner(lent, problem, self.task.settings, self.task.steering, self.task.focal, initial)

    def synchronise(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def steps(rounds):
    """Seconds of a step by kind, in turns; the floor's parts; by precision the largest difference of the loss, as a
    share, to the published loop's."""
    bench = Bench()
    times = {kind: [] for kind in (*KINDS, "floor")}
    differences = dict.fromkeys(PRECISIONS, 0.0)

    def timed(kind, update):
        bench.synchronise()
        began = time.perf_counter()
        result = update()
        bench.synchronise()
        times[kind].append(time.perf_counter() - began)
        return result

    learners = {}
    for precision in PRECISIONS:
        with bench.borrowing(precision) as lent:
            learners[precision] = bench.learner(lent)
    published, floor = Published(bench, learners["fp32"]), Floor(bench, learners["fp32"])
    for _ in range(rounds):
        for precision, learner in learners.items():
            with bench.borrowing(precision) as learner.model:
                timed(precision, learner.update)
                if precision == "fp32":
                    timed("floor", floor.update)
        loss = timed("published", published.update)
        for precision, learner in learners.items():
            differences[precision] = max(differences[precision], abs(learner.history[-1]["loss"] / loss - 1))
    # The first round warms up.
    parts = {name: statistics.median(values[1:]) for name, values in floor.parts.items()}
    return {kind: values[1:] for kind, values in times.items()}, parts, differences


def by_batch(sizes=(1, 2, 4, 8), rounds=4):
    """Median seconds of an update with one micro-batch, by its size."""
    result = {}
    for size in sizes:
        bench = Bench(size, 1)
        with bench.borrowing() as lent:
            learner, seconds = bench.learner(lent), []
            for _ in range(rounds + 1):
                bench.synchronise()
                began = time.perf_counter()
                learner.update()
                bench.synchronise()
                seconds.append(time.perf_counter() - began)
        result[str(size)] = statistics.median(seconds[1:])
    return result


@contextlib.contextmanager
def watching_memory(device, found):
    """Fill `found` with the peak of memory over what is in use now, in bytes."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield
        found.append(torch.cuda.max_memory_allocated() - before)
        return
    process, stop, peak = psutil.Process(), threading.Event(), [0]
    before = process.memory_info().rss

    def watch():
        while not stop.wait(0.002):
            peak[0] = max(peak[0], process.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    found.append(max(peak[0] - before, 0))


def peak_memory(kind, updates=3):
    """Bytes that weights and a few updates take; called in a process of its own."""
    bench, found = Bench(), []
    networks = (bench.model.model.diffusion_model, bench.clip.cond_stage_model, bench.vae.first_stage_model)
    if kind != "published":
        weights = sum(p.nbytes for network in networks for p in network.parameters())
        with watching_memory(bench.device, found), bench.borrowing(kind) as lent:
            learner = bench.learner(lent)
            for _ in range(updates):
                learner.update()
    else:
        weights = sum(4 * p.numel() for network in networks for p in network.parameters())
        with bench.borrowing() as lent:
            learner = bench.learner(lent)
        published = Published(bench, learner)
        with watching_memory(bench.device, found):
            for _ in range(updates):
                published.update()
    return weights + found[0]


def flat_memory(updates):
    """RSS in bytes after a tenth of the updates and after all of them."""
    bench, process = Bench(1, 1), psutil.Process()
    with bench.borrowing("bf16") as lent:
        learner = bench.learner(lent)
        for _ in range(updates // 10):
            learner.update()
        early = process.memory_info().rss
        for _ in range(updates - updates // 10):
            learner.update()
        return early, process.memory_info().rss


def use(rounds, sampling_steps=6):
    """Median seconds of the host's own encode and sample, and of the same with a relation in the prompt."""
    bench = Bench()
    import comfy.sample

    vectors = {"clip_l": bench.host.word_rows(bench.clip, "clip_l", ["above"])}
    latent = torch.zeros(1, *bench.mean.shape[1:])
    noise = comfy.sample.prepare_noise(latent, 0)
    times = {"host": [], "relation": []}
    with torch.inference_mode():
        for _ in range(rounds + 1):
            for kind, word in (("host", "above"), ("relation", "<R>")):
                began = time.perf_counter()
                clip = bench.host.with_relation(bench.clip, "<R>", vectors) if kind == "relation" else bench.clip
                positive, negative = (
                    clip.encode_from_tokens_scheduled(clip.tokenize(text))
                    for text in (f"red circle {word} blue star", "")
                )
                comfy.sample.sample(
                    bench.model, noise, sampling_steps, 5.0, "euler", "normal", positive, negative, latent,
                    disable_pbar=True, seed=0,
                )  # fmt: skip
                bench.synchronise()
                times[kind].append(time.perf_counter() - began)
    return {kind: statistics.median(values[1:]) for kind, values in times.items()}


_IMPORT = """
import sys, time
from micro import host
host.enter()
import importlib.util, utils.install_util, server, nodes, comfy_api.latest, comfy.sd
spec = importlib.util.spec_from_file_location("pack", "__init__.py", submodule_search_locations=["."])
module = importlib.util.module_from_spec(spec)
sys.modules["pack"] = module
began = time.perf_counter()
spec.loader.exec_module(module)
import asyncio
extension = asyncio.run(module.comfy_entrypoint())
asyncio.run(extension.get_node_list())
print("seconds", time.perf_counter() - began)
"""


def import_seconds(rounds=3):
    """Median seconds that the pack adds to the start of a host whose own modules are loaded."""
    found = []
    for _ in range(rounds):
        output = subprocess.run(
            [sys.executable, "-c", _IMPORT, "--cpu"], cwd=host.ROOT, capture_output=True, text=True, check=True
        ).stdout
        found.append(float(output.split("seconds")[-1]))
    return statistics.median(found)


def in_a_process(function, *arguments):
    """The JSON result of a function of this module in a fresh process."""
    code = f"import json; from micro import speed; print('result', json.dumps(speed.{function}(*{arguments!r})))"
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=host.ROOT, capture_output=True, text=True, check=True
    ).stdout
    return json.loads(output.split("result")[-1])


def measure(rounds, updates):
    imported = import_seconds()
    times, parts, differences = steps(rounds)
    medians = {kind: statistics.median(values) for kind, values in times.items()}
    memory = {kind: in_a_process("peak_memory", kind) for kind in KINDS}
    by_precision = {
        precision: {
            "ratio_published": medians["published"] / medians[precision],
            "peak_memory_ratio": memory[precision] / memory["published"],
            "loss_difference": differences[precision],
        }
        for precision in PRECISIONS
    }
    fastest = max(PRECISIONS, key=lambda precision: by_precision[precision]["ratio_published"])
    early, late = in_a_process("flat_memory", updates)
    used = use(rounds)
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores",
        "torch": torch.__version__,
        "batch": "2 x 4",
        "rounds": rounds,
        "precision": fastest,
        "ratio_published": by_precision[fastest]["ratio_published"],
        "peak_memory_ratio": by_precision[fastest]["peak_memory_ratio"],
        "by_precision": by_precision,
        "overhead_floor": medians["fp32"] / medians["floor"],
        "use_overhead": used["relation"] / used["host"] - 1,
        "import_seconds": imported,
        "seconds": medians,
        "floor_parts": parts,
        "peak_bytes": memory,
        "seconds_by_batch": by_batch(),
        "memory_growth": {"updates": updates, "share": late / early - 1},
    }


def markdown(report):
    memory, parts = report["memory_growth"], report["floor_parts"]
    batch = ", ".join(f"{size}: {1000 * seconds:.0f} ms" for size, seconds in report["seconds_by_batch"].items())
    shared = parts["text encoder"] / sum(parts.values())
    rows = [
        ("a whole step beside the bare networks, fp32", f"{report['overhead_floor']:.2f} x", "at most 1.10 x"),
        ("a relation beside the host's own encode and sample", f"{100 * report['use_overhead']:+.1f}%", "at most 2%"),
        ("added to the host's start", f"{report['import_seconds']:.3f} s", "at most 0.1 s"),
        (
            f"memory from update {memory['updates'] // 10} to {memory['updates']}",
            f"{100 * memory['share']:+.1f}%",
            "flat",
        ),
        ("a step of one batch, by pictures in it", batch, "linear"),
        *((f"of the bare step, fp32: {name}", f"{1000 * seconds:.0f} ms", "") for name, seconds in parts.items()),
    ]
    return "\n".join(
        [
            "# Speed",
            "",
            f"`make speed` on {report['device']}, torch {report['torch']}; the miniature (64 x 64 pictures), "
            f"{report['batch']}, medians of {report['rounds'] - 1} rounds in turns.",
            "",
            "Beside the published loop (fp32), by `precision`:",
            "",
            "| | steps a second | peak memory | largest difference of the loss |",
            "|---|---|---|---|",
            *(
                f"| {precision} | {row['ratio_published']:.1f} x | {row['peak_memory_ratio']:.2f} x | "
                f"{row['loss_difference']:.1e} |"
                for precision, row in report["by_precision"].items()
            ),
            "| goal | at least 3 x | at most 0.6 x | rounding, in fp32 |",
            "",
            "| | measured | goal |",
            "|---|---|---|",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
            f"On pictures this small the text encoder takes {100 * shared:.0f}% of a step. In fp32 both loops run it "
            "alike and hold its activations, so that what is saved on the VAE and the embedding table counts for less "
            "than on pictures of 512 x 512. `auto` computes as ComfyUI loaded the model, in float32 on a CPU.",
            "",
            *(
                []
                if torch.cuda.is_available()
                else ["Not measured: a GPU, its memory, fp16, and a full-size Stable Diffusion.", ""]
            ),
        ]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--updates", type=int, default=2000, help="over which memory is watched")
    parser.add_argument("--publish", action="store_true", help="write the table to docs/speed.md")
    arguments = parser.parse_args()
    report = measure(arguments.rounds, arguments.updates)
    write_whole(FOLDER / "report.json", json.dumps(report, indent=1).encode())
    table = markdown(report)
    write_whole(FOLDER / "speed.md", table.encode())
    if arguments.publish:
        write_whole(host.ROOT / "docs" / "speed.md", table.encode())
    print(table)  # noqa: T201


if __name__ == "__main__":
    main()
