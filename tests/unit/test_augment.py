"""Views of an exemplar: what tells one relation from another stays, and what is no part of it changes a little."""

import dataclasses

import numpy as np
import pytest

from lab.miniature import judge, placing, world
from reversion_core.exemplars import Exemplars, augment
from reversion_core.exemplars.augment import AUGMENTATIONS, colour_words, each_view, view_notes

COUNT = AUGMENTATIONS["views"].count


def exemplars(*pictures, captions=("circle {} square",), **options):
    names = tuple(f"{i}.png" for i in range(len(pictures)))
    return Exemplars(names, tuple(pictures), (tuple(captions),) * len(pictures), **options)


def noise(height=60, width=90):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def views(given, side=64, name="views", seed=0):
    return np.stack(list(each_view(given, side, name, seed)))


def test_none_is_the_pictures_as_they_are_and_the_first_view_is_too():
    given = exemplars(noise(), noise(40, 50))
    assert np.array_equal(views(given, name="none"), given.fitted(64))
    assert np.array_equal(views(given)[::COUNT], given.fitted(64))


def test_views_are_those_of_the_seed_and_all_differ():
    given = exemplars(noise(), noise())
    first = views(given, seed=2**63 - 1)
    assert len(first) == 2 * COUNT and np.array_equal(first, views(given, seed=2**63 - 1))
    assert not np.array_equal(first, views(given, seed=1))
    made = [view.tobytes() for i, view in enumerate(first) if i % COUNT]
    assert len(set(made)) == len(made)


def test_views_that_keep_their_colours_differ_from_the_picture_and_each_other():
    made = views(exemplars(noise(), captions=("a red cat {} stone",)))
    assert len({view.tobytes() for view in made}) == COUNT


@pytest.mark.parametrize("relation", ["left of", "above", "inside", "on", "behind"])
def test_the_relation_is_still_seen_in_every_view(relation):
    """By the judge, which knows only the colours of its world: these stay here, as a caption names them."""
    subject, object_ = world.Entity("red", "circle"), world.Entity("blue", "square")
    scene = placing.arrange(relation, subject, object_, np.random.default_rng(3))
    given = exemplars(world.render(scene, 4), captions=(f"{subject} {{}} {object_}",))
    for view in views(given, 256):
        seen = judge.look(world.reduced((view * 255).astype(np.uint8)))
        assert seen.holds(relation, subject, object_), seen


@pytest.mark.parametrize("shape", [(64, 64), (50, 128), (128, 50)])
def test_left_and_above_stay_and_no_view_shows_what_was_not_shown(shape):
    """A picture that grows redder to the right and greener downwards: views keep the order and lose a tenth at most."""
    height, width = shape
    across, down = np.linspace(0, 255, width), np.linspace(0, 255, height)
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0], picture[..., 1] = across[None], down[:, None]
    given = exemplars(picture, captions=("a red cat {} stone",))
    whole, *others = views(given, 64)
    for view in others:
        for channel, axis in ((0, 1), (1, 0)):
            values, of_whole = view[..., channel].mean(1 - axis), whole[..., channel].mean(1 - axis)
            assert (np.diff(values) > -1e-3).all()
            lost = (values[0] - of_whole[0], of_whole[-1] - values[-1])
            span = of_whole[-1] - of_whole[0]
            assert min(lost) > -0.02 * span and sum(lost) < (AUGMENTATIONS["views"].crop + 0.02) * span


def test_colours_change_unless_a_caption_of_that_picture_names_one():
    flat = np.full((32, 32, 3), (200, 40, 40), np.uint8)
    free, kept = exemplars(flat), exemplars(flat, captions=("cat {} stone", "a RED-haired cat {} stone"))
    assert np.ptp(views(free), axis=0).max() > 0.2
    assert np.ptp(views(kept), axis=0).max() == 0
    both = dataclasses.replace(exemplars(flat, flat), captions=(*free.captions, *kept.captions))
    first, second = views(both).reshape(2, COUNT, 64, 64, 3)
    assert np.ptp(first, axis=0).max() > 0.2 and np.ptp(second, axis=0).max() == 0


def test_grey_stays_grey_and_colours_stay_in_range():
    grey = np.repeat(noise()[..., :1], 3, axis=2)
    assert np.ptp(views(exemplars(grey)), axis=-1).max() < 0.01
    found = views(exemplars(noise()))
    assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
    assert np.allclose(augment.recoloured(found[0], 0.0, 1.0, 1.0), found[0], atol=1e-6)
    half_turn = augment.recoloured(np.float32([[[0.6, 0.4, 0.4]]]), 180.0, 1.0, 1.0)
    assert half_turn[0, 0, 0] < half_turn[0, 0, 1]  # red comes out as cyan


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("cat {} stone", ()),
        ("a Grey cat {} dark-green moss", ("grey", "dark", "green")),
        ("reddish leaf {} wall, black-and-white", ("reddish", "black", "white")),
        ("a bred {} a greenhouse", ()),  # words, not pieces of them
        ("红色的猫 {} 石头", ("红色的猫",)),
    ],
)
def test_colour_words(caption, words):
    assert colour_words([caption]) == words


def test_the_notes_say_how_many_views_and_whose_colours_stay():
    assert view_notes(exemplars(noise()), "none") == []
    assert len(view_notes(exemplars(noise()), "views")) == 1
    said = view_notes(exemplars(noise(), captions=("cat {} stone", "a red cat {} a white stone")), "views")
    assert f"{COUNT} views of each picture" in said[0]
    assert said[1] == "the colours stay where a caption names one: 0.png (red, white)"
