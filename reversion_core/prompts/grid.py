"""Grids of prompts for queues: every subject with every object, and a file name for each."""

import collections
import functools
import itertools
import random
import re
import unicodedata
from pathlib import Path

from ..store.reading import Unreadable, parsed_json, read_text
from ..store.relation import RESERVED_NAMES

SUBJECT, OBJECT = "{subject}", "{object}"
LONGEST_NAME = 100  # characters
LONGEST_NAME_ON_DISK = 120  # bytes; with what Save Image adds it stays under the 143 of encrypted folders
MOST_SHUFFLED = 10**6  # pairs
MOST_PROMPTS = 10**5
MOST_TEXT = 64 * 2**20  # characters of all prompts
_OPEN, _CLOSE = r"{\[<(\uff5b\uff3b\uff1c\uff08", r"}\]>)\uff5d\uff3d\uff1e\uff09"
_WORDS = "(?:subjects?|objects?)"
_BETWEEN_ENTRIES = re.compile(r"[,;\t|\u3001\uff0c\uff1b]")
_OWN_LISTS = Path(__file__).with_name("lists.json")


@functools.cache
def prompt_lists():
    """The pack's own lists for the relations of the ReVersion Benchmark: see `read_prompt_lists`."""
    return read_prompt_lists(_OWN_LISTS)


def read_prompt_lists(path):
    """The lists of a JSON file: relation -> {"subjects": [str, ...], "objects": [str, ...]}.

    The file holds that table, or {"relations": that table}. Raises Unreadable, a ValueError, for anything else.
    """
    found = parsed_json(read_text(path))
    if isinstance(found, dict) and isinstance(found.get("relations"), dict):
        found = found["relations"]
    if not isinstance(found, dict) or not found:
        raise Unreadable("it is not a table of relations")
    lists = {}
    for relation, entities in found.items():
        of_one = [entities.get(name) for name in ("subjects", "objects")] if isinstance(entities, dict) else [None]
        if not all(isinstance(words, list) and words and all(map(_is_entity, words)) for words in of_one):
            raise Unreadable(f"{relation[:60]!r} needs a list of subjects and a list of objects")
        if not all(map(is_text, (relation, *of_one[0], *of_one[1]))):
            raise Unreadable(f"{relation[:60]!r} has a character that no text has", "write it again")
        lists[relation] = dict(zip(("subjects", "objects"), of_one, strict=True))
    return lists


def is_text(text):
    """Whether a text has whole characters only: JSON can hold halves of some."""
    return not re.search("[\ud800-\udfff]", text)


def _is_entity(word):
    return isinstance(word, str) and bool(word.strip())


def stripped_lines(text):
    """The lines of a text that are not empty, without the spaces around them."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def grid(template, subjects, objects, limit=0, order_seed=0):
    """Every subject with every object in the template, subject by subject; a word may stand in both places.

    order_seed: 0 keeps the order, another number shuffles it, the same way everywhere; limit: how many at most, 0 for
    all. Returns a list of prompts. Raises ValueError, before anything is built, where they would be too many.
    """
    pairs = len(subjects) * len(objects)
    count = min(pairs, limit or pairs)
    longest = len(template) + sum(
        template.count(slot) * max(map(len, words)) for slot, words in ((SUBJECT, subjects), (OBJECT, objects))
    )
    if order_seed and pairs > MOST_SHUFFLED:
        raise ValueError(f"{len(subjects)} x {len(objects)} pairs are more than the {MOST_SHUFFLED} that are shuffled")
    if count > MOST_PROMPTS:
        raise ValueError(f"{count} prompts are more than {MOST_PROMPTS}")
    if count * longest > MOST_TEXT:
        raise ValueError(f"{count} prompts of up to {longest} characters are more than {MOST_TEXT // 2**20} MB of text")
    numbers = range(pairs)
    if order_seed:
        numbers = list(numbers)
        random.Random(order_seed).shuffle(numbers)
    pieces = re.split(f"({re.escape(SUBJECT)}|{re.escape(OBJECT)})", template)
    prompts = []
    for number in itertools.islice(numbers, count):
        words = {SUBJECT: subjects[number // len(objects)], OBJECT: objects[number % len(objects)]}
        prompts.append("".join(words.get(piece, piece) for piece in pieces))
    return prompts


def near_slots(template):
    """Pieces of a template that look like {subject} or {object} and are not read as these."""
    pieces = re.findall(
        rf"[{_OPEN}%]\s*{_WORDS}\s*[{_CLOSE}%]|__{_WORDS}__|\$\{{?{_WORDS}\b\}}?", template, re.IGNORECASE
    )
    return [piece for piece in dict.fromkeys(pieces) if piece not in (SUBJECT, OBJECT)]


def oddities(template, subjects, objects):
    """What is likely meant otherwise, a sentence each: what stays in the prompts, doubles, lists on one line."""
    rest = template.replace(SUBJECT, "").replace(OBJECT, "")
    left = re.findall(r"\{[^{}]*\}|\uff5b[^\uff5b\uff5d]*\uff5d|%\w+%", rest)
    filled_in = f"only {SUBJECT} and {OBJECT} are filled in"
    if left:
        yield f"{', '.join(dict.fromkeys(left))[:120]} stays in the prompts: {filled_in}"
    elif single := re.search(r"[{}\uff5b\uff5d]", rest):
        yield f"{single[0]} stands alone in the template and stays in the prompts: {filled_in}"
    for name, slot, words in (("subjects", SUBJECT, subjects), ("objects", OBJECT, objects)):
        doubles = [word for word, count in collections.Counter(words).items() if count > 1]
        if doubles:
            yield f"{name}: {', '.join(doubles)[:120]} stands there more than once, and so do its prompts"
        together = [word for word in words if _BETWEEN_ENTRIES.search(word)]
        if 2 * len(together) > len(words):
            yield f"{name}: {together[0][:60]!r} is one entry; write one a line"
        if slot not in template:
            yield f"{slot} is not in the template: {words[0][:60]!r} of {name} is in no prompt"


def file_names(prompts):
    """A different name for each prompt, legal on every system: letters and digits of any script, - and _.

    At most `LONGEST_NAME` characters and `LONGEST_NAME_ON_DISK` bytes, and a number where prompts begin alike.
    """
    names, taken = [], {}
    for prompt in prompts:
        text = unicodedata.normalize("NFC", prompt[: 10 * LONGEST_NAME])
        name = re.sub(r"[^\w-]+", "_", text).strip("_")[:LONGEST_NAME]
        name = name.encode()[:LONGEST_NAME_ON_DISK].decode(errors="ignore") or "prompt"
        if name.lower() in RESERVED_NAMES:
            name = f"{name}_"
        free = name
        while (key := _on_disk(free)) in taken:
            taken[_on_disk(name)] += 1
            free = f"{name}-{taken[_on_disk(name)]}"
        taken[key] = 1
        names.append(free)
    return names


def _on_disk(name):
    """What two names share that are one file somewhere: Windows and macOS take letter cases for the same."""
    return unicodedata.normalize("NFC", name.casefold())
