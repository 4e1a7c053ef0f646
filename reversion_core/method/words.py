"""The basis of prepositions, and captions read as words."""

import re
from collections.abc import Iterable

# English prepositions of place and contact, each one token of CLIP's vocabulary.
_BASIS = """
    about above across after against along alongside amid among around at atop before behind below beneath beside
    beyond by down from in inside into near off on onto opposite out outside over past round through under underneath
    up upon with within
"""
PREPOSITIONS = tuple(_BASIS.split())
INITIAL_WORD = "and"
PLACEHOLDER = "<R>"
SLOT = "{}"

# Words that carry no look of their own: R is neither pushed away from them nor pulled to them.
_FUNCTION_WORDS = """
    a an the this that these those and or but nor as than so if while of to for per via
    he she it they him her them his hers its their theirs himself herself itself themselves
    my our your we you i me us who whom whose which what where when
    is are was were be been being am has have had do does did can could will would may might must shall should
    not no both each every either neither some any all another other others same such own only just very too also
    there here then now one two three four five six seven eight nine ten several few many more most
    left right top bottom front back side middle center centre
    photo photograph picture image drawing painting sketch
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())

_LEAD = re.compile(
    r"\s*(?:(?:an? |the )?(?:photo|photograph|picture|image|drawing|painting|sketch) of )?", re.IGNORECASE
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")


def split_words(text: str) -> list[str]:
    """The words of a text in lower case: no punctuation, no weights, hyphens and apostrophes kept inside a word."""
    without_weights = _NUMBER.sub(lambda number: " " if "." in number[0] else number[0], text)
    return _WORD.findall(without_weights.lower())


def basis_words(text: str) -> tuple[str, ...]:
    """The distinct words of a list that is separated by commas, semicolons, spaces or lines, in order."""
    return tuple(dict.fromkeys(word for word in re.split(r"[\s,;]+", text.lower()) if word))


COMMA = "[,\uff0c]"  # of any script


def entity_words(
    caption: str, basis: Iterable[str] = PREPOSITIONS, initial_word: str = INITIAL_WORD
) -> tuple[str, ...]:
    """The words of a caption template that must not leak into the relation, every occurrence, in order.

    Left out: function words, prepositions, the words of the basis, the word that R starts from, and the slot `{}`.
    """
    left_out = FUNCTION_WORDS.union(PREPOSITIONS, basis, (INITIAL_WORD, initial_word))
    return tuple(word for word in split_words(caption.replace(SLOT, " ")) if word not in left_out)


def swapped(caption: str) -> str:
    """The caption with its entities exchanged: "a photo of a cat {} a stone, at night" -> "a photo of a stone {} a cat,
    at night". What leads to the first entity, and what follows the second after a comma, stays in its place.
    """
    before, after = caption.split(SLOT, 1)
    lead = _LEAD.match(before).group()
    second, *rest = re.split(f"({COMMA})", after, maxsplit=1)
    return f"{lead}{second.strip()} {SLOT} {before.removeprefix(lead).strip()}{''.join(rest)}"
