"""Tables of scores: a row a picture, the mean and its interval below; and those that another judge gives as text."""

import contextlib
import csv
import hashlib
import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..store.files import lock, numbered, write_whole
from .intervals import interval

SCORES = ("relation_score", "entity_score")
COLUMNS = ("prompt", "entity_score", "relation_score", "phrase", "judge", "placeholder", "picture")
LARGEST_TABLE = 2**26  # bytes of a file that is read as a table
MOST_REDRAWN = 4_000_000  # pictures that one interval redraws
FEWEST_PROMPTS = 8  # of which an interval says something: of 3 it would hold the mean of others 77 times in 100


class NoTable(ValueError):
    """What should be a table of scores is none; the message says why, as the end of a sentence."""


class Measured(NamedTuple):
    """How pictures were judged. Numbers of different ways are never put together.

    phrase: the relation in words; judge: the CLIP's folder, or that another judge gave the numbers; placeholder: the
    relation's word in the prompts.
    """

    phrase: str
    judge: str
    placeholder: str


@dataclass(frozen=True)
class Row:
    """The scores of one picture; picture: its `fingerprint`, by which it is known again."""

    prompt: str
    picture: str
    measured: Measured
    entity_score: float
    relation_score: float

    @property
    def key(self) -> tuple[str, str]:
        """The same picture of the same prompt is one row of a table."""
        return self.prompt, self.picture


def fingerprint(picture: np.ndarray) -> str:
    """16 hexadecimal digits that tell a picture, uint8 [h, w, 3], from others."""
    data = repr(picture.shape).encode() + np.ascontiguousarray(picture).tobytes()
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def merged(rows: Iterable[Row], more: Iterable[Row]) -> list[Row]:
    """The rows and those that are added; a picture that is there already keeps its place, with its newest scores."""
    return list({row.key: row for row in [*rows, *more]}.values())


def summary(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Score's name -> "mean", "low" and "high" over all pictures; prompts are redrawn, then the pictures of each.

    Of few prompts the mean alone.
    """
    by_prompt = {}
    for row in rows:
        by_prompt.setdefault(row.prompt, []).append(row)
    if len(by_prompt) < FEWEST_PROMPTS:
        return {name: {"mean": float(np.mean([getattr(row, name) for row in rows]))} for name in SCORES}
    draws = min(4000, max(200, MOST_REDRAWN // len(rows)))
    return {
        name: interval([[getattr(row, name) for row in group] for group in by_prompt.values()], draws)
        for name in SCORES
    }


def in_words(rows: Sequence[Row]) -> str:
    """Such as "relation 0.031 (0.020 to 0.042), entity 0.230 (0.221 to 0.240), 24 pictures of 12 prompts"."""
    parts = []
    for name, found in summary(rows).items():
        between = f" ({found['low']:.3f} to {found['high']:.3f})" if "low" in found else ""
        parts.append(f"{name.removesuffix('_score')} {found['mean']:.3f}{between}")
    prompts = len({row.prompt for row in rows})
    parts.append(f"{len(rows)} picture{'s' * (len(rows) > 1)} of {prompts} prompt{'s' * (prompts > 1)}")
    return ", ".join(parts)


def lines(rows: Sequence[Row]) -> str:
    """The rows and their means for reading: a line each, its entity score, its relation score and its prompt."""
    means = {name: np.mean([getattr(row, name) for row in rows]) for name in SCORES}
    numbers = [(row.entity_score, row.relation_score, row.prompt) for row in rows]
    numbers.append((means["entity_score"], means["relation_score"], "mean"))
    return "\n".join(f"{entity:.4f}  {relation:.4f}  {prompt}" for entity, relation, prompt in numbers)


def as_bytes(rows: Sequence[Row]) -> bytes:
    """The table as a CSV file. The rows below the pictures name none: the mean, and the ends of its 95% interval."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row in rows:
        scores = f"{row.entity_score:.4f}", f"{row.relation_score:.4f}"
        writer.writerow((row.prompt, *scores, *row.measured, row.picture))
    found = summary(rows)
    for title, key in (("mean", "mean"), ("95% from", "low"), ("95% to", "high")):
        scores = (
            f"{found[name][key]:.4f}" if key in found[name] else "" for name in ("entity_score", "relation_score")
        )
        writer.writerow((title, *scores, "", "", "", ""))
    return text.getvalue().encode(errors="replace")


def write_new(path: Path, rows: Sequence[Row]) -> Path:
    """Save a table of its own, under the path or the next free one where another table has it; returns where."""
    data = as_bytes(rows)
    for free in numbered(path):
        if free.is_file() and free.read_bytes() == data:
            return free
        with contextlib.suppress(FileExistsError):  # another program was faster
            if not os.path.lexists(free):
                write_whole(free, data, replace=False)
                return free


def add(path: Path, rows: Iterable[Row]) -> list[Row]:
    """Add rows to the table at the path, which need not be there yet; returns all of its rows. Raises NoTable."""
    with lock(path):
        rows = merged(read(path), rows)
        write_whole(path, as_bytes(rows))
    return rows


def read(path: Path) -> list[Row]:
    """The pictures of a table, none where there is no file. Raises NoTable for what is no whole table of scores."""
    if not path.exists():
        return []
    try:
        if path.stat().st_size > LARGEST_TABLE:
            raise NoTable(f"it is larger than {LARGEST_TABLE // 2**20} MB")
        text = path.read_bytes().decode("utf-8-sig")
        head, *found = csv.reader(io.StringIO(text, newline=""), strict=True)
    except OSError as error:
        raise NoTable(f"it cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise error if isinstance(error, NoTable) else NoTable("it is no CSV file in UTF-8") from error
    if tuple(head) != COLUMNS:
        raise NoTable(f"its columns are not {', '.join(COLUMNS)}")
    rows = []
    for number, values in enumerate(found, 2):
        if len(values) != len(COLUMNS):
            raise NoTable(f"line {number} has {len(values)} values instead of {len(COLUMNS)}")
        prompt, entity, relation, phrase, judge, placeholder, picture = values
        if picture:
            scores = (_number(value, number) for value in (entity, relation))
            rows.append(Row(prompt, picture, Measured(phrase, judge, placeholder), *scores))
    if len(found) == len(rows):
        raise NoTable("its end is missing")
    return rows


def judged(text: str) -> list[tuple[float, float]]:
    """(entity score, relation score) of each picture in the CSV text of another judge, by the names in its first line.

    Commas, semicolons or tabs divide it. Raises NoTable.
    """
    text = text.lstrip("\ufeff \r\n") if isinstance(text, str) else ""
    divider = max(",;\t", key=text.partition("\n")[0].count)
    try:
        names, *found = filter(None, csv.reader(io.StringIO(text, newline=""), delimiter=divider))
    except (csv.Error, ValueError) as error:
        raise NoTable("it is no table as CSV") from error
    names = [name.strip() for name in names]
    wanted = ("entity_score", "relation_score")
    if missing := [name for name in wanted if names.count(name) != 1]:
        raise NoTable(f"its first line names no column {missing[0]}, or two of them")
    rows = []
    for number, values in enumerate(found, 2):
        if len(values) != len(names):
            raise NoTable(f"line {number} has {len(values)} values instead of {len(names)}")
        rows.append(tuple(_number(values[names.index(name)], number) for name in wanted))
    return rows


def _number(text, line):
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise NoTable(f"{text[:40]!r} in line {line} is no number")
    return value
