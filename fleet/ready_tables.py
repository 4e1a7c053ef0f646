"""Ready tables: a relation's list of prompts with seeds, and one relation a folder."""

import itertools
import os
import re
from pathlib import Path

from reversion_core.errors import ReVersionError
from reversion_core.prompts import grid as prompts
from reversion_core.store.relation import checked_name

from .errors import FleetError


def benchmark(
    relation: str, seeds: int, template: str, file: str | None = None, lists: str | None = None
) -> list[dict]:
    """Rows of every prompt of a relation's lists with every seed from 0.

    file: the relation's embedding, for the hosts' ReVersion Load Relation; lists: a JSON file of lists instead of the
    pack's own, see `prompts.read_prompt_lists`.
    """
    try:
        known = prompts.read_prompt_lists(lists) if lists else prompts.prompt_lists()
    except (OSError, ValueError) as error:
        raise FleetError(f"{lists}: cannot be read as lists of prompts ({error})") from error
    if relation not in known:
        raise FleetError(f"'{relation}' is not in the lists; there are {', '.join(known)}")
    for place in (prompts.SUBJECT, prompts.OBJECT):
        if template.count(place) != 1:
            raise FleetError(f"the template {template!r} must contain {place} exactly once")
    if left := re.search(r"[{}]", template.replace(prompts.SUBJECT, "").replace(prompts.OBJECT, "")):
        raise FleetError(f"the template {template!r} has a '{left[0]}' that nothing fills in")
    entities = known[relation]
    given = {"relation": file} if file else {}
    grid = prompts.grid(template, entities["subjects"], entities["objects"])
    return [{**given, "prompt": prompt, "seed": seed} for prompt in grid for seed in range(seeds)]


def folders(paths: list[str]) -> list[dict]:
    """Rows of the folders' names, as ReVersion Load Exemplars and ReVersion Save Relation take them."""
    names = list(map(_folder_name, paths))
    if len({name.casefold() for name in names}) < len(names):
        raise FleetError("two folders have the same name, and so would their relations")
    relations = _relation_names(names)
    return [{"folder": name, "name": relation} for name, relation in zip(names, relations, strict=True)]


def _folder_name(path):
    """What the hosts call a folder: its path below the last folder called input, else its name; links as they are."""
    parts = Path(os.path.abspath(path)).parts
    below = [i for i, part in enumerate(parts[:-1]) if part == "input"]
    return "/".join(parts[below[-1] + 1 :] if below else parts[-1:])


def _relation_names(names):
    """A different name for each folder's relation, one that ReVersion Save Relation takes."""
    found = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:80] or "relation"
        try:
            checked_name(plain, "fleet", "folder")
        except ReVersionError:  # a number, or a name that a system keeps for itself
            plain = f"relation-{plain}"
        numbered = itertools.chain([plain], (f"{plain}-{number}" for number in itertools.count(2)))
        free = next(candidate for candidate in numbered if candidate.casefold() not in found)
        found[free.casefold()] = free
    return list(found.values())
