"""`make benchmark`: relation inversion measured beside its baselines, on the miniature.

Every cell learns one relation in one way (or uses a plain word) and draws held-out pairs of entities with it; the judge
counts. Cells that are done are kept in build/benchmark/report.json, learned relations beside it, so a run that was
stopped goes on where it was. `--quick` does a few cells in under ten minutes.
"""

import argparse
import datetime
import hashlib
import json
import logging
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lab.bench import intervals, methods, tables
from lab.bench.intervals import Records
from lab.bench.methods import Cell
from lab.bench.run import FOLDER, Runner, material, means
from lab.harness import comfyui
from lab.miniature.forms import SHARED
from reversion_core.store.files import write_whole

PUBLISHED = comfyui.ROOT / "docs" / "benchmark-tables.json"


def about(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the report says of itself: command, code, machine, model and design."""
    import comfyui_version

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=comfyui.ROOT, capture_output=True, text=True).stdout.strip()

    return {
        "command": "make benchmark" + (" QUICK=1" if arguments.quick else ""),
        "date": datetime.date.today().isoformat(),
        "commit": git("rev-parse", "--short", "HEAD") + (" with changes" if git("status", "--porcelain") else ""),
        "hardware": comfyui.device_name(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "host": comfyui_version.__version__,
        "weights": hashlib.sha256(SHARED.read_bytes()).hexdigest()[:12],
        "exemplars": methods.EXEMPLARS,
        "pairs": arguments.pairs,
        "drawing": methods.SAMPLING,
    }


def write_report(path: Path, records: Records, details: dict[str, Any]) -> dict[str, Any]:
    """Write the report of all records so far as JSON to `path`, and as Markdown beside it; returns it."""
    report = {
        "about": details,
        "summary": intervals.summary(records),
        "differences": intervals.differences(records),
        "curves": intervals.curves(records),
        "cells": records,
    }
    write_whole(path, json.dumps(report).encode())
    write_whole(path.with_suffix(".md"), tables.of_benchmark(report).encode())
    return report


def read_records(path: Path, details: dict[str, Any]) -> Records:
    """The records of an earlier report, none where it is of other weights or another number of pairs."""
    report = json.loads(path.read_text()) if path.exists() else {"about": {}}
    same = all(report["about"].get(name) == details[name] for name in ("weights", "pairs"))
    return report["cells"] if same else {}


def measure(runner: Runner, records: Records, left: list[Cell], hours: float, save: Callable[[], Any]) -> None:
    """Measure the cells that are left, for so many hours at most; save() is called after each."""
    began = time.monotonic()
    for i, cell in enumerate(left, 1):
        records[json.dumps(cell)] = record = runner.record(cell)
        save()
        spent = time.monotonic() - began
        shares = ", ".join(f"{name} {share:.2f}" for name, share in means(record).items())
        minutes = spent / i * (len(left) - i) / 60
        name = " / ".join(map(str, cell))
        logging.info("%s: %s; %d left, about %.0f min", name, shares, len(left) - i, minutes)
        if spent > hours * 3600:
            break


def write_figures(runner: Runner, report: dict[str, Any], folder: Path) -> None:
    """Pictures of the report, from relations that are learned already."""
    from lab.bench import figures  # needs matplotlib, which only a published report does

    learned = {}
    for relation in methods.CONDITIONS["wordless"].relations:
        exemplars, scenes, _ = material("wordless", relation, 0)
        learned[relation] = scenes, runner.learn("balanced", exemplars, 0).relation.vectors
    exemplars, *_ = material("confounded", "above", 0)
    histories = {method: runner.learn(method, exemplars, 0).history for method in ("Textual Inversion", "balanced")}
    figures.write(runner, report, learned, histories, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pairs", type=int, default=methods.PAIRS, help="held-out pairs a cell")
    parser.add_argument("--hours", type=float, default=1e9, help="stop after the cell that is running then")
    parser.add_argument("--publish", action="store_true", help="write the report and its pictures to docs/")
    arguments = parser.parse_args()
    path = FOLDER / ("quick.json" if arguments.quick else "report.json")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    runner, details = Runner(arguments.pairs, curves=not arguments.quick), about(arguments)
    # A fresh clone goes on from the published report.
    records = read_records(path if path.exists() or arguments.quick else PUBLISHED, details)
    wanted = list(methods.cells(arguments.quick))
    left = [cell for cell in wanted if json.dumps(cell) not in records]

    def save(path: Path = path) -> dict[str, Any]:
        details["cells"] = f"{len(records)} of {len(wanted)}"
        return write_report(path, records, details)

    measure(runner, records, left, arguments.hours, save)
    save()
    if arguments.publish:
        write_figures(runner, save(PUBLISHED), PUBLISHED.parent)
    print(path.with_suffix(".md").read_text())  # noqa: T201


if __name__ == "__main__":
    main()
