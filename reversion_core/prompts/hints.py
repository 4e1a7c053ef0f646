"""What an artist should be told of a prompt in which a relation's word is missing or misspelt."""

import html
import re
import unicodedata
from collections.abc import Iterable

# A word in brackets that could be meant for a placeholder; a colon makes it something else, such as a LoRA's tag.
_BRACKETED = re.compile(r"(?:<|\uff1c|&lt;|\\<)\s*([^<>\uff1c\uff1e&\\:|\s]{1,40})\s*(?:>|\uff1e|&gt;|\\>)")
_MOST = 20_000  # characters that are looked at


def hint(text: str, placeholders: Iterable[str]) -> str:
    """One sentence for a prompt, "" where there is nothing to say.

    placeholders: the words that stand for relations, such as "<R>".
    """
    known, text = sorted(placeholders), text[:_MOST]
    if not known or not text.strip():
        return ""
    left = text
    for word in known:
        left = left.replace(word, " ")
    knows = f"this CLIP knows {' and '.join(known)}"
    for match in _BRACKETED.finditer(left):
        return f"{match[0]} is read as letters: {knows}{_meant(match[0], known)}."
    if left == text:
        bare = [word for word in known if re.search(rf"(?<!\w){re.escape(word.strip('<>'))}(?!\w)", text)]
        said = f", only the letter{'s' if len(bare[0]) > 3 else ''} {bare[0].strip('<>')}" if bare else ""
        right = "" if bare else " For a negative prompt that is right."
        return f"There is no {' or '.join(known)} in this prompt{said}, so it has no relation.{right}"
    return ""


def _meant(found: str, known: list[str]) -> str:
    """Which placeholder somebody will have meant."""
    close = [word for word in known if _folded(word) == _folded(found)]
    return f"; write {close[0]}" if close else ""


def _folded(word: str) -> str:
    plain = unicodedata.normalize("NFKC", html.unescape(word.replace("\\", "")))
    return "".join(plain.split()).casefold()
