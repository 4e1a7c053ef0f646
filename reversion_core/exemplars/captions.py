"""Captions: templates with one `{}`, and which lines of a text belong to which picture."""

import re
import unicodedata
from pathlib import PurePosixPath

from ..errors import ReVersionError
from ..method.words import PLACEHOLDER, SLOT
from ..store.reading import as_seen, printable
from .pictures import OTHER_PICTURES, PICTURE_SUFFIXES

LONGEST_CAPTION = 200_000  # characters; a text encoder reads about 300
# What looks like {} or <R> and is neither.
_NEAR_SLOT = re.compile(
    r"\{\s*\w?\s*\}|<\s*/?\s*\w{1,2}\s*>|&lt;\s*r\s*&gt;|\[\s*r?\s*\]|\(\s*\)|\{\{|\bembedding:\S+", re.IGNORECASE
)
_ZERO_WIDTH_JOINER = "\u200d"  # without it some scripts and emoji are others
_SUFFIXES = "|".join(
    re.escape(suffix) for suffix in sorted({*PICTURE_SUFFIXES, *OTHER_PICTURES}, key=len, reverse=True)
)
# Where the name of a picture ends in a line, and what stands between it and the caption.
_END_OF_NAME = re.compile(rf"(?:{_SUFFIXES})(?=[\s\"'\])\u201d\u300d:\uff1a=|,;\u3001\uff0c\uff1b>-]|$)", re.IGNORECASE)
_BEFORE_NAME = " \t\"'[(\u201c\u300c"
_BETWEEN = re.compile(
    r"[\s\"'\])\u201d\u300d]*(?:->|=>|[:\uff1a=|,;\u3001\uff0c\uff1b>\u2013\u2014\u2192-])*[\s\"'\u201c\u300c]*"
)
_LONGEST_NAME = 300  # characters


def template(caption, node, input_name, owner=""):
    """A caption with exactly one `{}`; `<R>` is taken for it too. Raises a ReVersionError otherwise.

    owner: the picture it belongs to, for the message.
    """
    text = " ".join(_visible(caption[: LONGEST_CAPTION + 1]).replace(PLACEHOLDER, SLOT).split())
    problem, cure = None, f"write {SLOT} once, where the relation stands"
    if len(caption) > LONGEST_CAPTION:
        problem, cure = f"has {len(caption)} characters", "write what is on the picture in a sentence"
    elif any(unicodedata.category(c) == "Cs" for c in text):
        problem, cure = "has a character that no text has", "rewrite it"
    elif SLOT not in text:
        near = _NEAR_SLOT.search(unicodedata.normalize("NFKC", text))
        problem = f"has no {SLOT}" + (f" ({near[0]!r} is not read as one)" if near else "")
    elif text.count(SLOT) > 1:
        problem = f"has more than one {SLOT}"
    elif not text.replace(SLOT, "").strip():
        problem, cure = f"is only {SLOT}", "name the two entities around it, such as 'cat {} stone'"
    if problem:
        shown = f"the caption {printable(caption.strip()[:200])!r}" + (f" of {owner}" if owner else "")
        raise ReVersionError(node, input_name, f"{shown} {problem}", cure)
    return text


def _visible(text):
    """The text in its composed form, without characters that nobody sees."""
    text = unicodedata.normalize("NFC", text)
    return "".join(c for c in text if c == _ZERO_WIDTH_JOINER or unicodedata.category(c) != "Cf")


def filled_lines(text):
    """The lines of a text that say something."""
    return [line for line in text.splitlines() if line.strip()]


class Owners:
    """Which pictures a name means that stands in a table of captions, or before a text: as people see names."""

    def __init__(self, pictures):
        self._exact, self._seen, self._stems = set(pictures), {}, {}
        for picture in pictures:
            self._seen.setdefault(as_seen(picture), []).append(picture)
            self._stems.setdefault(as_seen(PurePosixPath(picture).stem), []).append(picture)

    def of(self, written):
        """Pictures of this name; folders may stand before it, and its suffix may be left out."""
        plain = PurePosixPath(written.replace("\\", "/")).name
        return self.named(plain) or self._stems.get(as_seen(plain), [])

    def named(self, written):
        """Pictures of this whole name, with its suffix; folders may stand before it."""
        plain = PurePosixPath(written.replace("\\", "/")).name
        return [plain] if plain in self._exact else self._seen.get(as_seen(plain), [])


def of_each(lines, pictures):
    """Picture -> its captions, from lines for all pictures: `0.jpg: caption` each, or one a picture in their order.

    A single line is for all of them, and all lines are for a single picture. Raises ValueError that has both numbers.
    """
    owners, found = Owners(pictures), {}
    named = [_named(line, owners) for line in lines]
    for number, (line, owner) in enumerate(zip(lines, named, strict=True), 1):
        if owner is None and (strange := _strange_name(line)):
            there = ", ".join(pictures[:6]) + (f" and {len(pictures) - 6} more" if len(pictures) > 6 else "")
            raise ValueError(f"line {number} begins with {strange[:80]!r}, and the pictures are {there}")
    if any(named):
        if None in named:
            raise ValueError(f"line {named.index(None) + 1} does not begin with a picture's name, and others do")
        for owner, caption in named:
            found.setdefault(owner, []).append(caption)
        return found
    if len(pictures) == 1 and lines:
        return {pictures[0]: lines}
    if len(lines) == 1:
        lines = lines * len(pictures)
    if len(lines) != len(pictures):
        raise ValueError(f"there are {len(pictures)} pictures and {len(lines)} captions")
    return {picture: [line] for picture, line in zip(pictures, lines, strict=True)}


def _named(line, owners):
    """(picture, caption) of a line such as `0.jpg: cat {} stone`, or None."""
    for name, rest in reversed(list(_beginnings(line))):  # the longest name first
        if found := owners.named(name):
            return found[0], rest
    start, separator, caption = re.match(r"([^:\uff1a|\t,;]*)([:\uff1a|\t,;]?)(.*)", line, re.DOTALL).groups()
    found = owners.named(start.strip(_BEFORE_NAME)) if separator else []
    return (found[0], caption.strip(" \"'")) if found else None


def _beginnings(line):
    """(what may be the name of a picture, the caption after it), of a line."""
    for end in _END_OF_NAME.finditer(line[: _LONGEST_NAME + 1]):
        caption = line[_BETWEEN.match(line, end.end()).end() :]
        yield line[: end.end()].strip(_BEFORE_NAME), caption.rstrip(" \"'\u201d\u300d")


def _strange_name(line):
    """The name of a picture that a line begins with, "" where it begins with words."""
    name, _ = next(_beginnings(line), ("", ""))
    ends = line[line.find(name) + len(name) :].lstrip("\"'\u201d\u300d ")[:1]
    is_name = (
        SLOT not in name and PLACEHOLDER not in name and (" " not in name or ends in (":", "\uff1a", "|", "=", "\t"))
    )
    return name if name and is_name else ""
