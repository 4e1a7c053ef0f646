"""What ReVersion Score measured in the jobs of a run, put together: each host has a table of its own jobs only."""

import json
import re
from pathlib import Path

from reversion_core.report.score_table import Measured, Row, as_bytes, in_words
from reversion_core.store.files import write_whole

from .answers import LONGEST_TEXT
from .errors import FleetError
from .results import MANIFEST

LINE = re.compile(r"(-?\d+\.\d{4})  (-?\d+\.\d{4})  (.+)")
MEAN = "mean"  # below the pictures of a job
UNKNOWN = Measured("", "", "")  # the texts of jobs do not say


def put_together(folder: str | Path) -> list[str]:
    """Write FOLDER/scores-NODE.csv of each node that showed scores in the last success of a job; returns sentences.

    Raises FleetError where there are none, or a file cannot be read or written.
    """
    folder = Path(folder)
    try:
        records = [*filter(None, map(_record, (folder / MANIFEST).read_bytes().splitlines()))]
        last = {record["job"]: record["texts"] for record in records if record["error"] is None}
        rows, cut = {}, set()
        for job, texts in last.items():
            for node, text in texts.items():
                if found := _rows(job, str(text)):
                    rows.setdefault(node, []).extend(found)
                    cut |= {node} if len(text) >= LONGEST_TEXT else set()
        if not rows:
            raise FleetError(f"{folder}: no job of this run showed scores")
        said = []
        for node, found in sorted(rows.items()):
            path = folder / f"scores-{re.sub(r'[^A-Za-z0-9_-]+', '_', node)[:80]}.csv"
            write_whole(path, as_bytes(found))
            said.append(f"node {node}: {in_words(found)}; {path}")
            if node in cut:
                said.append(f"node {node}: a job showed more scores than the manifest keeps; the rest is left out")
        return said
    except OSError as error:
        raise FleetError(f"{folder}: {error.strerror or error}") from error


def _record(line):
    """A line of the manifest; None for one that is cut off, or not of the fleet."""
    try:
        record = json.loads(line)
        known = isinstance(record["job"], str) and isinstance(record["texts"], dict) and "error" in record
        return record if known else None
    except (KeyError, RecursionError, TypeError, ValueError):
        return None


def _rows(job, text):
    """The pictures of a job in a text of ReVersion Score, each a picture of its own."""
    found = [line.groups() for line in map(LINE.fullmatch, text.splitlines()) if line]
    return [
        Row(prompt, f"{job}-{number}", UNKNOWN, float(entity), float(relation))
        for number, (entity, relation, prompt) in enumerate(found)
        if prompt != MEAN
    ]
