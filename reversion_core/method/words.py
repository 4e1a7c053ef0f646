"""The basis of prepositions and the reading of captions into words."""

import re

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

_NO_ENTITY = frozenset(("a", "an", "the", *PREPOSITIONS))
_LEAD = re.compile(
    r"\s*(?:(?:an? |the )?(?:photo|photograph|picture|image|drawing|painting|sketch) of )?", re.IGNORECASE
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")


def split_words(text):
    """The words of a text in lower case: no punctuation, no weights, hyphens and apostrophes kept inside a word."""
    without_weights = _NUMBER.sub(lambda number: " " if "." in number[0] else number[0], text)
    return _WORD.findall(without_weights.lower())


def basis_words(text):
    """The distinct words of an artist's list, in order, separated by commas, spaces or lines."""
    return tuple(dict.fromkeys(word for word in re.split(r"[\s,;]+", text.lower()) if word))


def entity_words(captions, basis=PREPOSITIONS, initial_word=INITIAL_WORD):
    """The words that must not leak into the relation: all of the captions but articles, prepositions and the slot.

    captions: templates with `{}` for the relation. Returns distinct lower-case words in order of appearance.
    """
    left_out = _NO_ENTITY.union(basis, (initial_word,))
    words = (word for caption in captions for word in split_words(caption.replace(SLOT, " ")))
    return tuple(dict.fromkeys(word for word in words if word not in left_out))


def swapped(caption):
    """The caption with its entities exchanged: "a photo of a cat {} a stone, at night" -> "a photo of a stone {} a cat,
    at night". What leads to the first entity, and what follows the second after a comma, stays in its place.
    """
    before, after = caption.split(SLOT, 1)
    lead = _LEAD.match(before).group()
    second, comma, rest = after.partition(",")
    return f"{lead}{second.strip()} {SLOT} {before.removeprefix(lead).strip()}{comma}{rest}"
