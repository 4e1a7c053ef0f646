"""Grids of prompts for queues: every subject with every object, and a file name for each."""

import functools
import json
import random
import re
import unicodedata
from pathlib import Path

from .relation import RESERVED_NAMES

SUBJECT, OBJECT = "{subject}", "{object}"
LONGEST_NAME = 100
_BENCHMARK = Path(__file__).with_name("benchmark.json")


@functools.cache
def benchmark():
    """The ReVersion Benchmark's entities: relation -> {"subjects": [...], "objects": [...]} (arXiv 2303.13495)."""
    return json.loads(_BENCHMARK.read_text(encoding="utf-8"))["relations"]


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
