from micro import world
from reversion_core.words import PREPOSITIONS, entity_words, split_words


def test_words_have_no_punctuation_weights_or_case():
    assert split_words("(Red circle:1.3), the cat's T-shirt {}!") == ["red", "circle", "the", "cat's", "t-shirt"]


def test_negatives_are_the_entities_and_not_the_relation_or_articles():
    captions = ["a red circle {} the blue square", "red circle {} cat, on a table"]
    assert entity_words(captions) == ("red", "circle", "blue", "square", "cat", "table")


def test_every_basis_word_is_in_the_miniature_s_captions():
    said = {word for phrases in world.RELATION_WORDS.values() for phrase in phrases for word in phrase.split()}
    assert set(PREPOSITIONS) <= said
