"""`make benchmark`: relation inversion measured beside its baselines, on the miniature.

Every cell learns one relation in one way (or uses a plain word) and draws held-out pairs of entities with it; the judge
counts. Cells that are done are kept in build/benchmark/report.json, learned relations beside it, so a run that was
stopped goes on where it was. `--quick` does a few cells in under ten minutes.
"""

import argparse
import concurrent.futures
import datetime
import json
import logging
import multiprocessing
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from lab.bench import intervals, methods, tables
from lab.bench.intervals import Records
from lab.bench.methods import Cell
from lab.bench.run import FOLDER, Runner, material, means
from lab.harness import comfyui
from reversion_core.store.files import write_whole

PUBLISHED = comfyui.ROOT / "docs" / "benchmark-tables.json"


def about(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the report says of itself: command, code, machine, model and design."""
    import comfyui_version

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=comfyui.ROOT, capture_output=True, text=True).stdout.strip()

    return {
        "command": "make benchmark" + (" QUICK=1" if arguments.quick else ""),
        "precision": methods.PRECISION,
        "date": datetime.date.today().isoformat(),
        "commit": git("rev-parse", "--short", "HEAD") + (" with changes" if git("status", "--porcelain") else ""),
        "hardware": comfyui.device_name(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "host": comfyui_version.__version__,
        "weights": methods.weights(),
        "exemplars": methods.EXEMPLARS,
        "pairs": arguments.pairs,
        "drawing": methods.SAMPLING,
    }


def write_report(path: Path, records: Records, details: dict[str, Any]) -> dict[str, Any]:
    """Write the report of all records so far as JSON to `path`, and as Markdown beside it; returns it."""
    report = {
        "about": details,
        "summary": intervals.summary(records),
        "relations": intervals.by_relation(records),
        "differences": intervals.differences(records),
        "curves": intervals.curves(records),
        "verdicts": intervals.verdicts(records),
        "advices": intervals.advices(records),
        "cells": records,
    }
    write_whole(path, json.dumps(report).encode())
    write_whole(path.with_suffix(".md"), tables.of_benchmark(report).encode())
    return report


def read_records(path: Path, wanted: Iterable[Cell], pairs: int, weights: str) -> Records:
    """The records of wanted cells in an earlier report that were measured by today's design, on this miniature."""
    stored = json.loads(path.read_text())["cells"] if path.exists() else {}

    def equal(cell: Cell) -> bool:
        made = stored.get(json.dumps(cell), {}).get("made", {})
        return (made.get("design"), made.get("weights")) == (methods.design(cell, pairs), weights)

    return {json.dumps(cell): stored[json.dumps(cell)] for cell in wanted if equal(cell)}


_runner: Runner  # of a process that measures


def _start(threads: int, *of_runner: Any) -> None:
    global _runner
    torch.set_num_threads(threads)
    _runner = Runner(*of_runner)


def _record(cell: Cell) -> dict[str, Any]:
    return _runner.record(cell)


def pool_of(arguments: argparse.Namespace, records: Records) -> concurrent.futures.Executor:
    """Processes of one thread each where there are as many cores: pictures this small keep one core busy at a time."""
    threads = max(1, (os.cpu_count() or 1) // arguments.processes)
    cells = {Cell(*json.loads(key)): record for key, record in records.items()}
    found = {cell.relation: record["word"] for cell, record in cells.items() if cell.method == "best word"}
    given = threads, arguments.pairs, not arguments.quick, found
    return concurrent.futures.ProcessPoolExecutor(
        arguments.processes, multiprocessing.get_context("spawn"), _start, given
    )


def measure(
    left: Iterable[Cell],
    pool: concurrent.futures.Executor,
    record: Callable[[Cell], dict[str, Any]],
    at_a_time: int,
    hours: float,
) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """(cell, its record) of each cell, as they are done; after so many hours no other is begun.

    record(cell) is called in the pool. A cell that fails is told and left out, and in the end raises RuntimeError.
    """
    began, left, running, failed = time.monotonic(), list(left), {}, []
    try:
        while True:
            while left and len(running) < at_a_time and time.monotonic() - began < hours * 3600:
                cell = left.pop(0)
                running[pool.submit(record, cell)] = cell
            if not running:
                break
            done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                cell = running.pop(future)
                if error := future.exception():
                    logging.error("%s failed", " / ".join(map(str, cell)), exc_info=error)
                    failed.append(cell)
                else:
                    yield cell, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
    if failed:
        raise RuntimeError(f"{len(failed)} cells failed, the first is {failed[0]}")


def write_figures(report: dict[str, Any], pairs: int, folder: Path) -> None:
    """Pictures of the report, and of relations that are learned already."""
    from lab.bench import figures  # needs matplotlib, which only a published report does

    figures.write_counts(report, folder)
    runner, learned = Runner(pairs), []
    for relation in methods.CONDITIONS["wordless"].relations:
        exemplars, scenes, _ = material("wordless", relation, 0)
        learned.append((scenes, runner.learn("balanced", exemplars, 0).relation.vectors))
    figures.write_sheet(runner, learned, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pairs", type=int, default=methods.PAIRS, help="held-out pairs a cell")
    parser.add_argument("--hours", type=float, default=1e9, help="stop after the cell that is running then")
    processes = 1 if torch.cuda.is_available() else min(4, os.cpu_count() or 1)
    parser.add_argument("--processes", type=int, default=processes, help="how many cells are measured at a time")
    parser.add_argument("--publish", action="store_true", help="write the report and its pictures to docs/")
    arguments = parser.parse_args()
    if arguments.publish and (arguments.quick or arguments.pairs != methods.PAIRS):
        parser.error("only the whole benchmark is published")
    of_others = "" if arguments.pairs == methods.PAIRS else f"-{arguments.pairs}"
    path = FOLDER / f"{'quick' if arguments.quick else 'report'}{of_others}.json"
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    comfyui.make_importable()
    details = about(arguments)
    # A fresh clone goes on from the published report.
    source = path if path.exists() or arguments.quick else PUBLISHED
    wanted = list(methods.cells(arguments.quick))
    records = read_records(source, wanted, arguments.pairs, details["weights"])
    left = [cell for cell in wanted if json.dumps(cell) not in records]
    made = {name: details[name] for name in ("commit", "hardware", "weights")}

    def save(path: Path = path) -> dict[str, Any]:
        details["cells"] = f"{len(records)} of {len(wanted)}"
        return write_report(path, records, details)

    measured = measure(left, pool_of(arguments, records), _record, arguments.processes, arguments.hours)
    for number, (cell, record) in enumerate(measured, 1):
        records[json.dumps(cell)] = record | {"made": {"design": methods.design(cell, arguments.pairs), **made}}
        save()
        shares = ", ".join(f"{name} {share:.2f}" for name, share in means(record).items())
        logging.info("%s: %s; %d left", " / ".join(map(str, cell)), shares, len(left) - number)
    save()
    if arguments.publish:
        write_figures(save(PUBLISHED), arguments.pairs, PUBLISHED.parent)
    print(path.with_suffix(".md").read_text())  # noqa: T201


if __name__ == "__main__":
    main()
