"""The trial with T5: which of CLIP's features each of its tokens is taught to give."""

from lab.miniature.t5 import WINDOW, places


def test_each_piece_of_a_word_gives_the_word_s_feature_and_the_end_the_end_s():
    """ "a rectangle": one and three pieces in T5, one and two tokens in CLIP."""
    found = places([1, 3], [1, 2])
    assert found[:6] == [1, 2, 3, 3, 4, 0]  # the words, the end, and CLIP's start
    assert found[6:] == [*range(5, 5 + WINDOW - 6)]


def test_padding_beyond_clip_s_window_gives_its_last_feature():
    assert places([1], [3])[-1] == WINDOW - 1 and len(places([1], [3])) == WINDOW
    assert places([], [])[:3] == [1, 0, 2]
