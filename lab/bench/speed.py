"""`make speed`: a training step beside the published loop and beside the bare networks; what use and import cost.

What is compared runs in turns in one process, memory in a process of its own for each; ratios are of medians. Where
there is a GPU, or with `--full-size`, Stable Diffusion 1.5's architecture is measured at 512 x 512 too. Writes
build/speed/report.json and prints its table; `--publish` writes it to docs/speed.md too.
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

from lab.bench import full_size, tables
from lab.bench.loops import Floor, Published
from lab.harness import comfyui, server
from lab.miniature import pack, world
from reversion_core.exemplars import Exemplars
from reversion_core.method.focal import Focal
from reversion_core.method.steering import Steering
from reversion_core.store.files import write_whole
from reversion_core.training.settings import PRECISIONS, PRESETS

FOLDER = comfyui.ROOT / "build" / "speed"
RECOMPUTED = ", checkpointing"  # behind a precision: blocks are computed again in the backward pass


def exemplars(side, count=8):
    rng = np.random.default_rng(4)
    scenes = [world.arrange("above", *world.random_pair(rng), rng) for _ in range(count)]
    captions = tuple((f"{scene.pair[0]} {{}} {scene.pair[1]}",) for scene in scenes)
    return Exemplars(tuple(map(str, range(count))), tuple(map(world.render, scenes)), captions, side)


class Bench:
    """A checkpoint as the host loads it, the miniature's or a full-size one, and a training problem at the published
    setting."""

    def __init__(self, large=False, batch_size=2, accumulation=4):
        comfyui.enter()
        import comfy.model_management
        import comfy.sd

        from reversion_core import host as core_host
        from reversion_core.training import loop as trainer
        from reversion_core.training import run

        self.host, self.run, self.trainer = core_host, run, trainer
        self.device = comfy.model_management.get_torch_device()
        kind, path, side = pack, server.MODELS / server.CHECKPOINT, world.SIDE
        if large:
            kind, path, side = full_size, full_size.PATH, full_size.SIDE
        kind.write_checkpoint(path)
        with torch.inference_mode():
            self.model, self.clip, self.vae, _ = comfy.sd.load_checkpoint_guess_config(str(path))
        settings = {"batch_size": batch_size, "accumulation": accumulation}
        settings = dataclasses.replace(PRESETS["paper"], **settings)
        self.task = run.Task(exemplars(side), settings, Steering(), Focal())
        self.windows = run.check(self.model, self.clip, self.vae, self.task, "speed")[2]
        self.pixels = torch.from_numpy(self.task.exemplars.fitted(side))
        with torch.inference_mode():
            self.mean, self.std = core_host.scaled_posterior(self.model, self.vae, self.pixels)
        self.model, self.clip = core_host.load_for_training(self.model, self.clip)

    def borrowing(self, kind="fp32"):
        """kind: a precision, with `RECOMPUTED` behind it or without."""
        precision = kind.removesuffix(RECOMPUTED)
        return self.host.borrowing(self.model, self.clip, self.windows, precision, kind != precision)

    def learner(self, lent):
        problem = self.run.build_problem(self.clip, self.task, self.mean, self.std)
        initial = {"clip_l": self.host.word_rows(self.clip, "clip_l", [self.task.settings.initial_word]).cpu()}
        return self.trainer.Learner(lent, problem, self.task.settings, self.task.steering, self.task.focal, initial)

    def synchronise(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def steps(rounds, kinds, large=False):
    """Seconds of a step by kind, in turns; the floor's parts; by kind the largest difference of the loss, as a share,
    to the published loop's."""
    bench = Bench(large)
    times = {kind: [] for kind in (*kinds, "published", "floor")}
    differences = dict.fromkeys(kinds, 0.0)

    def timed(kind, update):
        bench.synchronise()
        began = time.perf_counter()
        result = update()
        bench.synchronise()
        times[kind].append(time.perf_counter() - began)
        return result

    learners = {}
    for kind in kinds:
        with bench.borrowing(kind) as lent:
            learners[kind] = bench.learner(lent)
    published, floor = Published(bench, learners["fp32"]), Floor(bench, learners["fp32"])
    for _ in range(rounds):
        for kind, learner in learners.items():
            with bench.borrowing(kind) as learner.model:
                timed(kind, learner.update)
                if kind == "fp32":
                    timed("floor", floor.update)
        loss = timed("published", published.update)
        for kind, learner in learners.items():
            differences[kind] = max(differences[kind], abs(learner.history[-1]["loss"] / loss - 1))
    # The first round warms up.
    parts = {name: statistics.median(values[1:]) for name, values in floor.parts.items()}
    return {kind: values[1:] for kind, values in times.items()}, parts, differences


def by_batch(sizes=(1, 2, 4, 8), rounds=4):
    """Median seconds of an update with one micro-batch, by its size."""
    result = {}
    for size in sizes:
        bench = Bench(batch_size=size, accumulation=1)
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


def held():
    """Bytes of memory that this process holds, without those of program files."""
    memory = psutil.Process().memory_info()
    return memory.rss - getattr(memory, "shared", 0)


@contextlib.contextmanager
def watching_memory(device, found):
    """Fill `found` with the peak of memory over what is in use now, in bytes."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield
        found.append(torch.cuda.max_memory_allocated() - before)
        return
    stop, peak = threading.Event(), [0]
    before = held()

    def watch():
        while not stop.wait(0.002):
            peak[0] = max(peak[0], held())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    found.append(max(peak[0] - before, 0))


def peak_memory(kind, large=False, updates=3):
    """Bytes that weights and a few updates take; called in a process of its own."""
    bench, found = Bench(large), []
    networks = (bench.model.model.diffusion_model, bench.clip.cond_stage_model, bench.vae.first_stage_model)
    if kind != "published":
        weights = sum(p.nbytes for network in networks for p in network.parameters())
        with watching_memory(bench.device, found), bench.borrowing(kind) as lent:
            learner = bench.learner(lent)
            for _ in range(updates):
                learner.update()
    else:
        with bench.borrowing() as lent:
            learner = bench.learner(lent)
        published = Published(bench, learner)
        weights = sum(4 * p.numel() for network in networks for p in network.parameters()) + published.before.nbytes
        with watching_memory(bench.device, found):
            for _ in range(updates):
                published.update()
    return weights + found[0]


def flat_memory(updates, precision):
    """Bytes held after a tenth of the updates and after all of them."""
    bench = Bench(batch_size=1, accumulation=1)
    with bench.borrowing(precision) as lent:
        learner = bench.learner(lent)
        for _ in range(updates // 10):
            learner.update()
        early = held()
        for _ in range(updates - updates // 10):
            learner.update()
        return early, held()


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
from lab.harness import comfyui
comfyui.enter()
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
            [sys.executable, "-c", _IMPORT, "--cpu"], cwd=comfyui.ROOT, capture_output=True, text=True, check=True
        ).stdout
        found.append(float(output.split("seconds")[-1]))
    return statistics.median(found)


def in_a_process(function, *arguments):
    """The JSON result of a function of this module in a fresh process."""
    code = f"import json; from lab.bench import speed; print('result', json.dumps(speed.{function}(*{arguments!r})))"
    # Memory that is freed goes back at once, so that what is seen is what is in use, as with a GPU's counter.
    output = subprocess.run(
        [sys.executable, "-c", code],
        cwd=comfyui.ROOT,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "16384"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return json.loads(output.split("result")[-1])


def precisions():
    """Those of the trainer that this machine computes in: a processor without bf16 arithmetic takes ages to emulate
    it."""
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def seconds(dtype):
        found, matrix = [], torch.randn(512, 512).to(device, dtype)
        for _ in range(5):
            began = time.perf_counter()
            float((matrix @ matrix)[0, 0])
            found.append(time.perf_counter() - began)
        return min(found)

    slow = seconds(torch.bfloat16) > 2 * seconds(torch.float32)
    return [precision for precision in PRECISIONS if not (slow and precision == "bf16")]


def compare(rounds, kinds, large=False):
    """Steps and memory of our kinds of training beside the published loop and the floor."""
    times, parts, differences = steps(rounds, kinds, large)
    medians = {kind: statistics.median(values) for kind, values in times.items()}
    memory = {kind: in_a_process("peak_memory", kind, large) for kind in (*kinds, "published")}
    return {
        "by_precision": {
            kind: {
                "ratio_published": medians["published"] / medians[kind],
                "peak_memory_ratio": memory[kind] / memory["published"],
                "loss_difference": differences[kind],
            }
            for kind in kinds
        },
        "overhead_floor": medians["fp32"] / medians["floor"],
        "ratio_floor": medians["published"] / medians["floor"],
        "seconds": medians,
        "floor_parts": parts,
        "peak_bytes": memory,
    }


def measure(rounds, updates, large):
    kinds = precisions()
    imported, found = import_seconds(), compare(rounds, kinds)
    fastest = max(kinds, key=lambda kind: found["by_precision"][kind]["ratio_published"])
    early, late = in_a_process("flat_memory", updates, fastest)
    used = use(rounds)
    report = {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores",
        "torch": torch.__version__,
        "batch": "2 x 4",
        "rounds": rounds,
        "precision": fastest,
        "ratio_published": found["by_precision"][fastest]["ratio_published"],
        "peak_memory_ratio": found["by_precision"][fastest]["peak_memory_ratio"],
        **found,
        "use_overhead": used["relation"] / used["host"] - 1,
        "import_seconds": imported,
        "seconds_by_batch": by_batch(),
        "memory_growth": {"updates": updates, "share": late / early - 1},
        "full_size": None,
    }
    if large:
        kinds = [*kinds, *(kind + RECOMPUTED for kind in kinds)]
        report["full_size"] = {"side": full_size.SIDE, **compare(rounds, kinds, large)}
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--updates", type=int, default=2000, help="over which memory is watched")
    parser.add_argument("--full-size", action="store_true", default=torch.cuda.is_available())
    parser.add_argument("--publish", action="store_true", help="write the table to docs/speed.md")
    arguments = parser.parse_args()
    report = measure(arguments.rounds, arguments.updates, arguments.full_size)
    write_whole(FOLDER / "report.json", json.dumps(report, indent=1).encode())
    table = tables.of_speed(report)
    write_whole(FOLDER / "speed.md", table.encode())
    if arguments.publish:
        write_whole(comfyui.ROOT / "docs" / "speed.md", table.encode())
    print(table)  # noqa: T201


if __name__ == "__main__":
    main()
