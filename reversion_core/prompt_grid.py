"""Grids of prompts for queues: every subject with every object, and a file name for each."""

import functools
import json
import random
import re
import unicodedata
from pathlib import Path

from .store.relation import RESERVED_NAMES

SUBJECT, OBJECT = "{subject}", "{object}"
LONGEST_NAME = 100
LARGEST_LIST_FILE = 2**20  # bytes
_OWN_LISTS = Path(__file__).with_name("prompt_lists.json")


@functools.cache
def prompt_lists():
    """The pack's own lists for the relations of the ReVersion Benchmark: see `read_prompt_lists`."""
    return read_prompt_lists(_OWN_LISTS)


def read_prompt_lists(path):
    """The lists of a JSON file: relation -> {"subjects": [str, ...], "objects": [str, ...]}.

    The file holds that table, or {"relations": that table}. Raises ValueError for anything else, OSError where it
    cannot be read.
    """
    if Path(path).stat().st_size > LARGEST_LIST_FILE:
        raise ValueError(f"it is larger than {LARGEST_LIST_FILE // 2**20} MB")
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if isinstance(found, dict) and isinstance(found.get("relations"), dict):
        found = found["relations"]
    if not isinstance(found, dict) or not found:
        raise ValueError("it is no table of relations")
    lists = {}
    for relation, entities in found.items():
        of_one = [entities.get(name) for name in ("subjects", "objects")] if isinstance(entities, dict) else [None]
        if not all(isinstance(words, list) and words and all(isinstance(w, str) for w in words) for words in of_one):
            raise ValueError(f"{relation[:60]!r} has not a list of subjects and a list of objects")
        lists[relation] = dict(zip(("subjects", "objects"), of_one, strict=True))
    return lists


def lines_of(text):
    """The lines of a text that are not empty, without the spaces around them."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def grid(template, subjects, objects, limit=0, order_seed=0):
    """Every subject with every object in the template, subject by subject; a word may stand in both places.

    order_seed: 0 keeps the order, another number shuffles it, the same way everywhere; limit: how many at most, 0 for
    all. Returns a list of prompts.
    """
    pieces = re.split(f"({re.escape(SUBJECT)}|{re.escape(OBJECT)})", template)
    prompts = [
        "".join({SUBJECT: subject, OBJECT: object_}.get(piece, piece) for piece in pieces)
        for subject in subjects
        for object_ in objects
    ]
    if order_seed:
        random.Random(order_seed).shuffle(prompts)
    return prompts[: limit or None]


def file_names(prompts):
    """A different name for each prompt, legal on every system: letters and digits of any script, - and _."""
    names, taken = [], set()
    for prompt in prompts:
        text = unicodedata.normalize("NFC", prompt)
        name = re.sub(r"[^\w-]+", "_", text).strip("_")[:LONGEST_NAME] or "prompt"
        if name.lower() in RESERVED_NAMES:
            name = f"{name}_"
        number, free = 1, name
        while free.casefold() in taken:  # Windows takes upper and lower case for the same
            number += 1
            free = f"{name}-{number}"
        taken.add(free.casefold())
        names.append(free)
    return names
