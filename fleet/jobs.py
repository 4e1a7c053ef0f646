"""A workflow and a table as jobs: one graph a row, known by its content."""

import hashlib
import json
import math
import re

from .errors import FleetError
from .workflow import Workflow

TEXT_OF = {"prompt": "positive", "negative": "negative"}
SEEDS = ("seed", "noise_seed")
MODEL_FILES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx")
# What the frontend replaces when it queues: choices in prompts, dates and widgets in the names of files.
FILLED_IN = {
    "text": re.compile(r"(?<!\\)\{[^{}]*\}"),
    "filename_prefix": re.compile(r"%(date(:[^%]*)?|[\w -]+\.[\w -]+)%"),
}


class Jobs:
    """The graphs of a table's rows, made when asked for, so that ten thousand of them are never in memory at once.

    numbers: where each row stands in its file; ids: a hash of the graph for each row. Raises FleetError for columns and
    values that the workflow cannot take.
    """

    def __init__(self, workflow: Workflow, rows: list[dict], numbers: list[int] | None = None):
        self.workflow, self.rows, self.numbers = workflow, rows, numbers or range(1, len(rows) + 1)
        columns = dict.fromkeys(column for row in rows for column in row)
        self.places = _places(workflow, columns)
        self.ids = [_hash(self.graph(i)) for i in range(len(rows))]

    def graph(self, i: int) -> dict:
        """The graph of row i, counted from 0."""
        graph = dict(self.workflow.graph)
        for column, value in self.rows[i].items():
            node, name = self.places[column]
            inputs = graph[node]["inputs"]
            value = _as(inputs[name], value, f"row {self.numbers[i]}, column '{column}'")
            graph[node] = {**graph[node], "inputs": {**inputs, name: value}}
        return graph

    def model_files(self) -> list[tuple]:
        """Every (node id, class, input, file name) of a model that some job loads, once."""
        found = {}
        for id_, name, _, values in self._inputs():
            for file in values:
                if isinstance(file, str) and file.lower().endswith(MODEL_FILES):
                    found[id_, self.workflow.graph[id_]["class_type"], name, file] = None
        return list(found)

    def left_to_the_browser(self) -> list[str]:
        """Sentences on texts that the browser would have filled in, and that hosts take as they stand."""
        said = []
        for id_, name, column, values in self._inputs():
            pattern = FILLED_IN.get(name)
            found = [text for text in values if pattern and isinstance(text, str) and pattern.search(text)]
            if found:
                where = f"column '{column}'" if column else _label(self.workflow, id_, name)
                first = pattern.search(found[0])[0][:40]
                said.append(f"{where}: '{first}' is sent as it stands (in {len(found)} of {len(values)} texts)")
        return said

    def _inputs(self):
        """(node id, input, its column or None, the values that it takes over all rows)."""
        columns = {place: column for column, place in self.places.items()}
        for id_, node in self.workflow.graph.items():
            for name, value in node["inputs"].items():
                column = columns.get((id_, name))
                values = [value] if column is None else [row.get(column, value) for row in self.rows]
                yield id_, name, column, values


def _hash(graph):
    try:
        text = json.dumps(graph, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise FleetError("the workflow holds a number that is none (NaN or infinity)") from error
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _as(current, value, where):
    """A table's value in the type of the workflow's own; strings only are turned."""
    if not isinstance(value, str) or isinstance(current, str | list):
        return value
    word = value.strip()
    try:
        if isinstance(current, bool):
            return {"true": True, "1": True, "false": False, "0": False}[word.lower()]
        if isinstance(current, int | float):
            return _number(word, whole=isinstance(current, int))
    except (KeyError, ValueError) as error:
        raise FleetError(f"{where}: {value!r} is not a value like {current!r}") from error
    return value


def _number(word, whole):
    """whole: the workflow has a whole number there, which may still stand for an input that takes fractions."""
    if whole and re.fullmatch(r"[+-]?[0-9]{1,40}", word):
        return int(word)
    number = float(word)
    if not math.isfinite(number) or "_" in word:
        raise ValueError("not a number")
    return int(number) if whole and number.is_integer() else number


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
