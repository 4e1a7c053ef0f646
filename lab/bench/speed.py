"""`make speed`: a training step beside the published loop and beside the bare networks; what use and import cost.

What is compared runs in turns in one process, memory in a process of its own for each; ratios are of medians. Stable
Diffusion 1.5's architecture is measured at 512 x 512 too, where there is a GPU or 14 GB of free memory (on a CPU in
fp32 alone and two pictures an update; --no-full-size leaves it out). Writes build/speed/report.json and prints its
table; `--publish` writes it to docs/speed.md too.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import psutil
import torch

from lab.bench import memory, overhead, random_checkpoints, speed_tables
from lab.bench.loops import BareNetworks, Published, stopwatch
from lab.bench.training_setup import BATCH_SIZE, FULL_SIZE, RECOMPUTED, TrainingSetup, accumulation_of
from lab.harness import comfyui
from reversion_core.store.files import write_whole
from reversion_core.training.settings import PRECISIONS

FOLDER = comfyui.ROOT / "build" / "speed"
FULL_SIZE_MEMORY = 14e9  # bytes that have to be free on a CPU
FULL_SIZE_ROUNDS = 3  # on a CPU


class Steps(NamedTuple):
    """seconds: kind -> of each step after the first; bare_parts, published_parts: medians; loss_differences: kind ->
    the largest difference of the loss to the published loop's, as a share of it."""

    seconds: dict[str, list[float]]
    bare_parts: dict[str, float]
    published_parts: dict[str, float]
    loss_differences: dict[str, float]


def steps(rounds: int, kinds: Sequence[str], large: bool = False) -> Steps:
    """Steps of our kinds of training, of the published loop and of the bare networks, in turns.

    kinds: of `TrainingSetup.borrowing`, "fp32" among them; large: at full size.
    """
    setup = TrainingSetup(large)
    times = {kind: [] for kind in (*kinds, "published", "bare")}
    differences = dict.fromkeys(kinds, 0.0)

    def timed(kind: str, update: Callable[[], Any]) -> Any:
        seconds = stopwatch(setup)
        result = update()
        times[kind].append(seconds())
        return result

    learners = {}
    for kind in kinds:
        with setup.borrowing(kind) as model:
            learners[kind] = setup.learner(model)
    published, bare = Published(setup, learners["fp32"]), BareNetworks(setup, learners["fp32"])
    for _ in range(rounds):
        for kind, learner in learners.items():
            with setup.borrowing(kind) as learner.model:
                timed(kind, learner.update)
                if kind == "fp32":
                    timed("bare", bare.update)
        loss = timed("published", published.update)
        for kind, learner in learners.items():
            differences[kind] = max(differences[kind], abs(learner.history[-1]["loss"] / loss - 1))
    # The first round warms up.
    bare_parts, published_parts = (
        {name: statistics.median(values[1:]) for name, values in loop.parts.items()} for loop in (bare, published)
    )
    return Steps({kind: values[1:] for kind, values in times.items()}, bare_parts, published_parts, differences)


def by_batch(sizes: Sequence[int] = (1, 2, 4, 8), rounds: int = 4) -> dict[str, float]:
    """Size of a micro-batch -> median seconds of an update of one."""
    result = {}
    for size in sizes:
        setup = TrainingSetup(batch_size=size, accumulation=1)
        with setup.borrowing() as model:
            learner, times = setup.learner(model), []
            for _ in range(rounds + 1):
                seconds = stopwatch(setup)
                learner.update()
                times.append(seconds())
        result[str(size)] = statistics.median(times[1:])
    return result


def in_fresh_process(function: Callable, *arguments: Any) -> Any:
    """The JSON result of a function of lab.bench.memory in a process of its own."""
    call = f"memory.{function.__name__}(*{arguments!r})"
    # Memory that is freed goes back at once, so that what is seen is what is in use, as with a GPU's counter.
    output = subprocess.run(
        [sys.executable, "-c", f"import json; from lab.bench import memory; print('result', json.dumps({call}))"],
        cwd=comfyui.ROOT,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "16384"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return json.loads(output.split("result")[-1])


def precisions() -> list[str]:
    """The trainer's, without bf16 on a processor that has to emulate it, which takes very long."""
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def seconds(dtype: torch.dtype) -> float:
        found, matrix = [], torch.randn(512, 512).to(device, dtype)
        for _ in range(5):
            began = time.perf_counter()
            float((matrix @ matrix)[0, 0])
            found.append(time.perf_counter() - began)
        return min(found)

    slow = seconds(torch.bfloat16) > 2 * seconds(torch.float32)
    return [precision for precision in PRECISIONS if not (slow and precision == "bf16")]


def compare(rounds: int, kinds: Sequence[str], large: bool = False, memory_updates: int = 3) -> dict[str, Any]:
    """Steps and memory of our kinds of training beside the published loop and the bare networks."""
    found = steps(rounds, kinds, large)
    medians = {kind: statistics.median(values) for kind, values in found.seconds.items()}
    peaks = {kind: in_fresh_process(memory.peak, kind, large, memory_updates) for kind in (*kinds, "published")}
    needless = sum(found.published_parts.values())
    return {
        "rounds": rounds,
        "batch": f"{BATCH_SIZE} x {accumulation_of(large)}",
        "by_precision": {
            kind: {
                "ratio_published": medians["published"] / medians[kind],
                "peak_memory_ratio": peaks[kind] / peaks["published"],
                "loss_difference": found.loss_differences[kind],
            }
            for kind in kinds
        },
        "overhead_bare": medians["fp32"] / medians["bare"],
        "ratio_bare": medians["published"] / medians["bare"],
        "ratio_without_needless": medians["published"] / (medians["published"] - needless),
        "seconds": medians,
        "bare_parts": found.bare_parts,
        "published_parts": found.published_parts,
        "peak_bytes": peaks,
    }


def compare_full_size(rounds: int, kinds: Sequence[str]) -> dict[str, Any]:
    """`compare` at full size: with checkpointing too on a GPU, in fp32 alone and fewer rounds on a CPU."""
    side = random_checkpoints.ARCHITECTURES[FULL_SIZE].side
    if torch.cuda.is_available():
        kinds = [*kinds, *(kind + RECOMPUTED for kind in kinds)]
        return {"side": side, **compare(rounds, kinds, True)}
    return {"side": side, **compare(FULL_SIZE_ROUNDS, ["fp32"], True, memory_updates=1)}


def measure(rounds: int, updates: int, large: bool) -> dict[str, Any]:
    """The whole report. rounds: of the miniature, the first one warms up; updates: over which memory is watched."""
    kinds = precisions()
    imported, found = overhead.import_seconds(), compare(rounds, kinds)
    fastest = max(kinds, key=lambda kind: found["by_precision"][kind]["ratio_published"])
    early, late = in_fresh_process(memory.growth, updates, fastest)
    used = overhead.use(rounds)
    return {
        "device": comfyui.device_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": fastest,
        "ratio_published": found["by_precision"][fastest]["ratio_published"],
        "peak_memory_ratio": found["by_precision"][fastest]["peak_memory_ratio"],
        **found,
        "use_overhead": used["relation"] / used["host"] - 1,
        "import_seconds": imported,
        "seconds_by_batch": by_batch(),
        "memory_growth": {"updates": updates, "share": late / early - 1},
        "full_size": compare_full_size(rounds, kinds) if large else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--updates", type=int, default=2000, help="over which memory is watched")
    fits = torch.cuda.is_available() or psutil.virtual_memory().available > FULL_SIZE_MEMORY
    parser.add_argument("--full-size", action=argparse.BooleanOptionalAction, default=fits)
    parser.add_argument("--publish", action="store_true", help="write the table to docs/speed.md")
    arguments = parser.parse_args()
    report = measure(arguments.rounds, arguments.updates, arguments.full_size)
    options = [option for option in sys.argv[1:] if option != "--publish"]
    report["command"] = " ".join(["python -m lab.bench.speed", *options]) if options else "make speed"
    write_whole(FOLDER / "report.json", json.dumps(report, indent=1).encode())
    table = speed_tables.of_speed(report)
    write_whole(FOLDER / "speed.md", table.encode())
    if arguments.publish:
        speed_tables.publish_speed(speed=table)
    print(table)  # noqa: T201


if __name__ == "__main__":
    main()
