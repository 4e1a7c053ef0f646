"""What an artist should be told of a prompt in which a relation's word is missing or misspelt."""

import html
import re
import unicodedata
from collections.abc import Iterable

# A word in brackets that could be meant for a placeholder; a colon makes it something else, such as a LoRA's tag.
_BRACKETED = re.compile(r"(?:<|\uff1c|&lt;|\\<)\s*([^<>\uff1c\uff1e&\\:|\s]{1,40})\s*(?:>|\uff1e|&gt;|\\>)")
_EMBEDDING = re.compile(r"\bembedding:\S", re.IGNORECASE)
_MOST = 20_000  # characters that are looked at
# Letters of other scripts that look like Latin ones.
_LOOKS = str.maketrans(
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0405\u0406\u0408"
    "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7",
    "ABEKMHOPCTXaeopcyxSIJABEZHIKMNOPTYX",
)


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
    for word in known:
        if doubled := re.search(rf"<\s*{re.escape(word)}\s*>", text):
            return f"{doubled[0]}: the outer brackets are read as letters; write {word}."
    for match in _BRACKETED.finditer(left):
        if alike := [word for word in known if _as_it_looks(match[0]) == word]:
            return f"{alike[0]} in this prompt only looks like {alike[0]} and has other characters: type it again."
        return f"{match[0]} is read as letters: {knows}{_meant(match[0], known)}."
    for word in known:
        if word not in text and (other := re.search(_in_other_brackets(word), text, re.IGNORECASE)):
            return f"{other[0]} is read as letters: {knows}; write {word}."
    if left == text and not _EMBEDDING.search(text):
        bare = [word for word in known if re.search(rf"(?<!\w){re.escape(word.strip('<>'))}(?!\w)", text)]
        said = f", only the letter{'s' if len(bare[0]) > 3 else ''} {bare[0].strip('<>')}" if bare else ""
        right = "" if bare else " For a negative prompt that is right."
        return f"There is no {' or '.join(known)} in this prompt{said}, so it has no relation.{right}"
    return ""


def _in_other_brackets(word: str) -> str:
    """A pattern of what somebody writes for a placeholder whose brackets are others, or of which one is missing."""
    bare = re.escape(word.strip("<>"))
    # Round and square ones weigh a word: around a longer one they are meant so.
    weights = (r"\[(", r"\])") if len(word) <= 4 else ("", "")
    pair = rf"[{{\u2039\u27e8\u3008\u300a\u300c{weights[0]}]\s*{bare}\s*[}}\u203a\u27e9\u3009\u300b\u300d{weights[1]}]"
    return rf"{pair}|<\s*{bare}(?![\w>-])|(?<![\w<-]){bare}\s*>"


def _as_it_looks(found: str) -> str:
    """What a person reads there."""
    return "".join(c for c in found if unicodedata.category(c) != "Cf").translate(_LOOKS)


def _meant(found: str, known: list[str]) -> str:
    """Which placeholder somebody will have meant."""
    close = [word for word in known if _folded(word) == _folded(found)]
    return f"; write {close[0]}" if close else ""


def _folded(word: str) -> str:
    plain = unicodedata.normalize("NFKC", html.unescape(word.replace("\\", "")))
    return "".join(plain.split()).casefold()
