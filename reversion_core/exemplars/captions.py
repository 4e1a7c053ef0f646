"""Captions: templates with one `{}`, and which lines of a text belong to which picture."""

import re
import unicodedata
from pathlib import PurePosixPath

from ..errors import ReVersionError
from ..method.words import PLACEHOLDER, SLOT
from ..store.reading import as_seen, printable

LONGEST_CAPTION = 200_000  # characters; a text encoder reads about 300
# What looks like {} or <R> and is neither.
_NEAR_SLOT = re.compile(
    r"\{\s*\w?\s*\}|<\s*/?\s*\w{1,2}\s*>|&lt;\s*r\s*&gt;|\[\s*r?\s*\]|\(\s*\)|\{\{|\bembedding:\S+", re.IGNORECASE
)


def template(caption, node, input_name, owner=""):
    """A caption with exactly one `{}`; `<R>` is taken for it too. Raises a ReVersionError otherwise.

    owner: the picture it belongs to, for the message.
    """
    text = " ".join(caption[: LONGEST_CAPTION + 1].replace(PLACEHOLDER, SLOT).split())
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


def filled_lines(text):
    """The lines of a text that are more than spaces, as they are."""
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
        if plain in self._exact:
            return [plain]
        return self.named(plain) or self._stems.get(as_seen(plain), [])

    def named(self, written):
        """Pictures of this whole name, with its suffix."""
        return self._seen.get(as_seen(written), [])


def of_each(lines, pictures):
    """Picture -> its captions, from lines for all pictures: `0.jpg: caption` each, or one a picture in their order.

    A single line is for all of them, and all lines are for a single picture. Raises ValueError that has both numbers.
    """
    owners, found = Owners(pictures), {}
    named = [_named(line, owners) for line in lines]
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
    start, separator, caption = re.match(r"([^:|\t,;]*)([:|\t,;]?)(.*)", line, re.DOTALL).groups()
    found = owners.named(start.strip(" \"'")) if separator else []
    return (found[0], caption.strip(" \"'")) if found else None
