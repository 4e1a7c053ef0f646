"""What the tests of the fleet write and read."""

import asyncio
import csv
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_async(coroutine):
    """What a coroutine gives, on a thread of its own: the browser tests leave an event loop running in theirs."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def command(folder, workflow, rows, *options, out):
    (folder / "workflow.json").write_text(json.dumps(workflow))
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return ["run", str(folder / "workflow.json"), str(folder / "table.csv"), "--out", str(out), *options]


def manifest(out):
    path = out / "manifest.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def seeds(count):
    return [{"seed": seed} for seed in range(count)]


def wait_for_lines(out, count, seconds=90):
    deadline = time.monotonic() + seconds
    while len(manifest(out)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def assert_each_once(out, count):
    lines = manifest(out)
    assert len(lines) == count == len({line["job"] for line in lines})
    assert not any(line["error"] for line in lines)
    named = sorted(output["file"] for line in lines for output in line["outputs"])
    assert named == sorted(path.name for path in out.glob("*.png")) and len(named) == count
    assert not list(out.glob("*.partial"))
