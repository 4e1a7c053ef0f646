import numpy as np
import pytest

from lab.miniature import judge, placing, world


def test_a_scene_is_drawn_the_same_from_the_same_random_numbers():
    first, second = (world.render(placing.random_scene(np.random.default_rng(3))) for _ in range(2))
    assert (first == second).all() and first.shape == (64, 64, 3)


def test_held_out_pairs_never_appear_in_training():
    rng = np.random.default_rng(0)
    assert not any(world.held_out(*world.random_pair(rng)) for _ in range(2000))
    assert all(world.held_out(*world.random_pair(rng, held_out_pairs=True)) for _ in range(100))
    assert world.held_out(*(pair := world.random_pair(rng, held_out_pairs=True))) == world.held_out(*pair[::-1])


def test_a_loosened_scene_is_the_same_off_the_grid_and_stays_on_the_picture():
    rng = np.random.default_rng(3)
    sizes = set()
    for _ in range(200):
        scene = placing.random_scene(rng)
        loose = placing.loosened(scene, rng)
        assert (loose.relation, loose.pair) == (scene.relation, scene.pair)
        sizes.add(loose.subject.size)
        for placed in (loose.subject, loose.object):
            left, top = placed.x - placed.size // 2, placed.y - placed.size // 2
            assert left >= 0 and top >= 0 and max(left, top) + placed.size <= world.SIDE
    assert len(sizes) > 10


def is_read(scene):
    """Whether the judge sees both entities of a rendered scene, and its relation."""
    seen = judge.look(world.render(scene))
    return set(seen.entities) == set(scene.pair) and seen.relation(*scene.pair) == scene.relation


def test_judge_reads_hundreds_of_scenes():
    rng = np.random.default_rng(1)
    wrong, read = [], 0
    while read < 400:
        scene = placing.random_scene(rng, held_out_pairs=rng.random() < 0.5)
        if scene.relation in world.WORDLESS:
            continue
        scene = placing.loosened(scene, rng) if read % 2 else scene
        read += 1
        if not is_read(scene):
            wrong.append((scene.relation, *map(str, scene.pair)))
    assert len(wrong) <= 4, wrong


@pytest.mark.parametrize(("relation", "share"), [("falling", 1), ("rising", 1), ("crowning", 0.95), ("peeking", 0.88)])
def test_judge_reads_relations_without_a_word(relation, share):
    """Of a triangle that peeks only a smaller triangle is seen, which could stand on what hides it."""
    rng = np.random.default_rng(4)
    scenes = [placing.arrange(relation, *world.random_pair(rng), rng) for _ in range(60)]
    assert np.mean([is_read(scene) for scene in scenes]) >= share


@pytest.mark.parametrize("relation", world.ONE_SIDED)
def test_judge_tells_from_which_side(relation):
    rng = np.random.default_rng(5)
    scene = placing.arrange(relation, *world.random_pair(rng), rng)
    seen = judge.look(world.render(scene))
    assert seen.holds(relation, *scene.pair) and not seen.holds(relation, *scene.pair[::-1])
    named, _ = world.ONE_SIDED[relation]
    assert seen.holds(named, *scene.pair) and seen.holds(named, *scene.pair[::-1])


@pytest.mark.parametrize("relation", world.RELATIONS)
def test_judge_tells_the_direction(relation):
    rng = np.random.default_rng(2)
    scene = placing.arrange(relation, *world.random_pair(rng), rng)
    seen = judge.look(world.render(scene))
    backwards = seen.relation(*scene.pair[::-1])
    assert (backwards == relation) == (relation in world.SYMMETRIC)


def broken_pictures():
    rng = np.random.default_rng(0)
    blank = np.full((64, 64, 3), 242, np.uint8)
    yield "blank", blank
    yield "black", blank * 0
    yield "noise", rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    scene = world.render(placing.arrange("above", *world.random_pair(rng), rng)).copy()
    scene[::2] = 242
    yield "lines", scene
    stripes = blank.copy()
    stripes[:, ::4] = world.COLOURS["red"]
    yield "stripes", stripes


@pytest.mark.parametrize(
    ("name", "picture"), broken_pictures(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_judge_sees_nothing_in_broken_pictures(name, picture):
    seen = judge.look(picture)
    assert not seen.relations and len(seen.entities) < 2


def test_judge_does_not_take_half_an_entity_for_one():
    rng = np.random.default_rng(5)
    misjudged = 0
    for _ in range(40):
        scene = placing.arrange("left of", *world.random_pair(rng), rng)
        picture = world.render(scene).copy()
        picture[scene.subject.y :] = 242  # the lower half is gone
        misjudged += judge.look(picture).relation(*scene.pair) == "left of"
    assert misjudged <= 4
