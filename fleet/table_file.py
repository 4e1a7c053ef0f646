"""Tables from spreadsheets and scripts: read as they are meant, or refused in a sentence."""

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

from reversion_core.store.reading import Unreadable, parsed_json, read_text

from .errors import FleetError

LARGEST = 256 * 2**20  # bytes
SEPARATORS = (",", ";", "\t")
LISTED = 8  # row numbers in a message


@dataclass(frozen=True)
class Table:
    """rows: {column: value} each; numbers: where each stands in the file, from 1; note: what was left out, or None."""

    rows: list[dict]
    numbers: list[int]
    note: str | None


def read_table(path: str | Path) -> Table:
    """A .csv or .tsv, or a .jsonl with an object a line.

    The values of a .csv are strings; its columns may be divided by comma, semicolon or tab, whichever divides the first
    line most. Empty rows are left out. Raises FleetError for what is not clear.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in (".csv", ".tsv", ".jsonl", ".ndjson"):
        raise FleetError(f"{path}: a table is a .csv, .tsv or .jsonl file")
    try:
        rows = _objects(_text(path)) if "json" in kind else _records(_text(path))
    except (ValueError, csv.Error) as error:
        raise FleetError(f"{path}: cannot be read as a table ({error})") from error
    numbers = [number for number, row in enumerate(rows, 1) if row]
    if not numbers:
        raise FleetError(f"{path}: the table has no rows")
    return Table([row for row in rows if row], numbers, _note(path, rows))


def _note(path, rows):
    empty = [number for number, row in enumerate(rows, 1) if not row]
    if not empty:
        return None
    listed = ", ".join(map(str, empty[:LISTED])) + (", ..." if len(empty) > LISTED else "")
    return f"{path}: empty rows are left out: {listed}"


def _text(path):
    try:
        return read_text(path, LARGEST)
    except Unreadable as error:
        raise ValueError(f"{error}; {error.cure}") from error


def _objects(text):
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    rows = []
    for number, line in lines:
        try:
            row = parsed_json(line, number)
        except Unreadable as error:
            raise ValueError(f"line {number}: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is not an object")
        for column, value in row.items():
            if not isinstance(value, str | int | float) or (isinstance(value, float) and not math.isfinite(value)):
                said = f"{value!r} is not a text, a number, true or false"
                raise ValueError(f"line {number}, column '{column}': {said}")
        rows.append(row)
    return rows


def _records(text):
    separator = None
    if text[:4].lower() == "sep=" and text[4:5]:  # what spreadsheets write to tell each other
        separator, (_, _, text) = text[4], text.partition("\n")
    first = next(iter(text.strip().splitlines()), "")
    separator = separator or max(SEPARATORS, key=first.count)
    lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    lines = lines[next((i for i, line in enumerate(lines) if any(line)), len(lines)) :]
    while lines and not any(lines[-1]):  # the end of the file
        lines.pop()
    if not lines:
        return []
    columns = [column.strip() for column in lines[0]]
    while columns and not columns[-1] and not any("".join(line[len(columns) - 1 :]) for line in lines):
        columns.pop()
    for number, column in enumerate(columns, 1):
        if not column:
            raise ValueError(f"column {number} has no name in the first line")
        if columns.index(column) + 1 < number:
            raise ValueError(f"column '{column}' is there twice")
    return [_record(number, line, columns, separator) for number, line in enumerate(lines[1:], 1)]


def _record(number, line, columns, separator):
    if not any(value.strip() for value in line):
        return {}
    if len(line) < len(columns) or any(line[len(columns) :]):
        raise ValueError(
            f"row {number} has {len(line)} values for {len(columns)} columns; "
            f"a text with '{separator}' in it belongs in quotes"
        )
    return dict(zip(columns, line, strict=False))
