import pytest

from lab.miniature import world
from reversion_core.method.words import PREPOSITIONS, entity_words, split_words, swapped


def test_words_have_no_punctuation_weights_or_case():
    assert split_words("(Red circle:1.3), the cat's T-shirt {}!") == ["red", "circle", "the", "cat's", "t-shirt"]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a red circle {} the blue square", "red circle blue square"),
        ("red circle {} red cat, on a table", "red circle red cat table"),
        ("a photo of his dog {} and left of to her own two cats", "dog cats"),
    ],
)
def test_negatives_are_the_entities_every_time_and_no_function_word(caption, expected):
    assert entity_words(caption, initial_word="near") == tuple(expected.split())


@pytest.mark.parametrize(
    ("text", "expected"), [("2 cats 3.5 .5 1.2.3 v2", ["2", "cats", "v2"]), ("9" * 300_000, ["9" * 300_000])], ids=len
)
def test_numbers_that_are_no_weights_are_words_also_where_they_are_long(text, expected):
    assert split_words(text) == expected


def test_every_basis_word_is_in_the_miniature_s_captions():
    said = {word for phrases in world.RELATION_WORDS.values() for phrase in phrases for word in phrase.split()}
    assert set(PREPOSITIONS) <= said


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("cat {} stone", "stone {} cat"),
        ("a photo of a cat {} a stone, at night", "a photo of a stone {} a cat, at night"),
        ("cup of tea {} table", "table {} cup of tea"),
    ],
)
def test_swapped_captions_exchange_the_entities_only(caption, expected):
    assert swapped(caption) == expected and swapped(expected) == caption
