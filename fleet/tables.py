"""Ready tables: the ReVersion Benchmark of a relation, and one relation a folder."""

import re
from pathlib import Path

from reversion_core import prompts

from .errors import FleetError


def benchmark(relation, seeds, template, file=None):
    """Rows of every prompt of a relation of the benchmark with every seed from 0; file: its embedding, for the hosts'
    ReVersion Load Relation."""
    if relation not in prompts.benchmark():
        raise FleetError(f"'{relation}' is not in the benchmark; there are {', '.join(prompts.benchmark())}")
    lists = prompts.benchmark()[relation]
    given = {"relation": file} if file else {}
    grid = prompts.grid(template, lists["subjects"], lists["objects"])
    return [{**given, "prompt": prompt, "seed": seed} for prompt in grid for seed in range(seeds)]


def folders(paths):
    """Rows of the folders' names, as ReVersion Load Exemplars and ReVersion Save Relation take them."""
    names = [Path(path).resolve().name for path in paths]
    relations = [re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "relation" for name in names]
    if len({name.casefold() for name in relations}) < len(relations):
        raise FleetError("two folders have the same name, and so would their relations")
    return [{"folder": name, "name": relation} for name, relation in zip(names, relations, strict=True)]
