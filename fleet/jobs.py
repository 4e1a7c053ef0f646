"""A workflow and a table as jobs: one graph a row, known by its content."""

import csv
import hashlib
import json
from pathlib import Path

from .errors import FleetError

TEXT_OF = {"prompt": "positive", "negative": "negative"}
SEEDS = ("seed", "noise_seed")
MODEL_FILES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx")


def read_table(path):
    """The rows of a .csv, or of a .jsonl with an object a line: [{column: value}]; the values of a .csv are strings."""
    path = Path(path)
    try:
        if path.suffix.lower() == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file))
        elif path.suffix.lower() in (".jsonl", ".ndjson"):
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            rows = [json.loads(line) for line in lines if line.strip()]
        else:
            raise FleetError(f"{path}: a table is a .csv or a .jsonl file")
    except (OSError, ValueError, csv.Error) as error:
        raise FleetError(f"{path}: cannot be read as a table ({error})") from error
    if not rows:
        raise FleetError(f"{path}: the table has no rows")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or None in row or None in row.values():
            raise FleetError(f"{path}, row {number}: it has not one value for each column")
    return rows


class Jobs:
    """The graphs of a table's rows, made when asked for, so that ten thousand of them are never in memory at once.

    ids: a hash of the graph for each row. Raises FleetError for columns and values that the workflow cannot take.
    """

    def __init__(self, workflow, rows):
        self.workflow, self.rows = workflow, rows
        columns = dict.fromkeys(column for row in rows for column in row)
        self.places = _places(workflow, columns)
        self.ids = [_hash(self.graph(i)) for i in range(len(rows))]

    def graph(self, i):
        graph = dict(self.workflow.graph)
        for column, value in self.rows[i].items():
            node, name = self.places[column]
            inputs = graph[node]["inputs"]
            value = _as(inputs[name], value, f"row {i + 1}, column '{column}'")
            graph[node] = {**graph[node], "inputs": {**inputs, name: value}}
        return graph

    def model_files(self):
        """Every (node id, class, input, file name) of a model that some job loads, once."""
        columns = {place: column for column, place in self.places.items()}
        found = {}
        for id_, node in self.workflow.graph.items():
            for name, value in node["inputs"].items():
                column = columns.get((id_, name))
                for file in [value] if column is None else [row.get(column, value) for row in self.rows]:
                    if isinstance(file, str) and file.lower().endswith(MODEL_FILES):
                        found[id_, node["class_type"], name, file] = None
        return list(found)


def _hash(graph):
    return hashlib.sha256(json.dumps(graph, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:32]


def _as(current, value, where):
    """A table's value in the type of the workflow's own; strings only are turned."""
    if not isinstance(value, str) or isinstance(current, str | list):
        return value
    try:
        if isinstance(current, bool):
            return {"true": True, "1": True, "false": False, "0": False}[value.strip().lower()]
        if isinstance(current, int | float):
            number = float(value)
            return int(value) if number == int(number) and isinstance(current, int) else number
    except (KeyError, ValueError, OverflowError) as error:
        raise FleetError(f"{where}: {value!r} is not a value like {current!r}") from error
    return value


def _places(workflow, columns):
    """Column -> (node id, input name). Raises FleetError with the candidates for every column that is not clear."""
    places, problems = {}, []
    for column in columns:
        found = _candidates(workflow, column)
        if len(found) == 1 and found[0] not in places.values():
            places[column] = found[0]
            continue
        what = "is named twice" if len(found) == 1 else "could be any of" if found else "names no input; there are"
        shown = [_label(workflow, *place) for place in found or _settable(workflow)]
        problems.append(f"column '{column}' {what} {', '.join(shown)}")
    if problems:
        raise FleetError("; ".join(problems))
    return places


def _label(workflow, node, name):
    title = workflow.titles[node]
    return f"{node}.{name}" + (f" ({title})" if title != node else "")


def _settable(workflow):
    return [
        (id_, name)
        for id_, node in workflow.graph.items()
        for name, value in node["inputs"].items()
        if not isinstance(value, list)
    ]


def _candidates(workflow, column):
    """The inputs that a column could name: NODE.INPUT by id, title or class, else a short name."""
    graph, settable = workflow.graph, _settable(workflow)
    wanted, dot, name = column.rpartition(".")
    if dot:
        by_title = [id_ for id_, title in workflow.titles.items() if title == wanted]
        by_class = [id_ for id_, node in graph.items() if node["class_type"] == wanted]
        nodes = [wanted] if wanted in graph else by_title or by_class
        return [(id_, name) for id_ in nodes if name in graph[id_]["inputs"]]
    names = SEEDS if column == "seed" else (column,)
    found = [(id_, name) for id_, name in settable if name in names]
    if not found and column in TEXT_OF:
        links = [node["inputs"].get(TEXT_OF[column]) for node in graph.values()]
        feeding = {link[0] for link in links if isinstance(link, list)}
        found = [(id_, name) for id_, name in settable if name == "text" and id_ in feeding]
    return found
