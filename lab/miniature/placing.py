"""Where the entities of a scene stand, so that its relation holds and fills the picture; positions are in pixels."""

import numpy as np

from lab.miniature import world

# Entities stand in slots of 24 pixels on a grid of 8, so that a shape always meets the latents, 8 pixels wide each, in
# the same way. `loosened` gives scenes off the grid.
SLOT = 24
_FIRST, _LAST = 4, 36  # edges of the outermost slots
_SIDES = (12, 20, 28)  # edges of the slots across a line of two
_OVERLAPPING = 32
_INNER, _OUTER = 22, 56
# Where the middle of the widest part lies below the centre of the bounding box, as a share of the size.
_CORE = {"triangle": 0.17, "heart": -0.08}

Places = tuple[world.Placed, world.Placed]


def _line(rng: np.random.Generator, first: world.Entity, second: world.Entity, gap: int, vertical: bool) -> Places:
    """Place `first` above (or left of) `second`, `gap` pixels between their slots; boxes that touch really touch."""
    start = _FIRST if gap or rng.random() < 0.5 else _FIRST + 8
    side = int(rng.choice(_SIDES)) + SLOT // 2
    along = [start + SLOT // 2, start + SLOT + gap + SLOT // 2]
    if not vertical:
        return world.Placed(first, SLOT, along[0], side), world.Placed(second, SLOT, along[1], side)
    if gap == 0:
        middle = start + SLOT + 1
        along = [middle - _rows(first.shape)[1], middle - 1 - _rows(second.shape)[0]]
    return world.Placed(first, SLOT, side, along[0]), world.Placed(second, SLOT, side, along[1])


def _rows(shape: str, size: int = SLOT) -> tuple[int, int]:
    """First and last row of a shape, below its centre."""
    mask = world.shape_mask(shape, size)
    rows = np.flatnonzero((mask >= 0.5).any(1)) - mask.shape[0] // 2
    return int(rows[0]), int(rows[-1])


def _nested(rng: np.random.Generator, small: world.Entity, large: world.Entity) -> Places:
    x, y = (int(v) for v in rng.choice((28, 36), 2))
    core = round(_CORE.get(large.shape, 0) * _OUTER)
    return world.Placed(small, _INNER, x, y + core), world.Placed(large, _OUTER, x, y)


def _overlapping(rng: np.random.Generator, first: world.Entity, second: world.Entity) -> Places:
    """Two entities of which one hides a part of the other, enough of it to tell which is in front."""
    while True:
        xs, ys = (24, 40)[:: _sign(rng)], (28, 36)[:: _sign(rng)]
        pair = world.Placed(first, _OVERLAPPING, xs[0], ys[0]), world.Placed(second, _OVERLAPPING, xs[1], ys[1])
        a, b = world.coverage(pair[0]), world.coverage(pair[1])
        if 0.12 <= (a * b).sum() / min(a.sum(), b.sum()) <= 0.6:
            return pair


def _sign(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1


def _corners(rng: np.random.Generator, first: world.Entity, second: world.Entity) -> Places:
    near, far = _FIRST + SLOT // 2, _LAST + SLOT // 2
    xs, ys = (near, far)[:: _sign(rng)], (near, far)[:: _sign(rng)]
    return world.Placed(first, SLOT, xs[0], ys[0]), world.Placed(second, SLOT, xs[1], ys[1])


def _corner_to_corner(rng: np.random.Generator, left: world.Entity, right: world.Entity, falling: bool) -> Places:
    """Two slots that touch at a corner, `left` above `right` where they fall and below it where they rise."""
    xs, ys = ([start + SLOT // 2, start + SLOT + SLOT // 2] for start in rng.choice((_FIRST, _FIRST + 8), 2))
    top, bottom = ys if falling else ys[::-1]
    return world.Placed(left, SLOT, int(xs[0]), int(top)), world.Placed(right, SLOT, int(xs[1]), int(bottom))


def _stacked(rng: np.random.Generator, upper: world.Entity, lower: world.Entity) -> Places:
    """Two entities straight above one another, of which one hides a part of the other, enough to tell which."""
    x = int(rng.choice((20, 28, 36, 44)))
    for rows in (10, 14, 18):
        placed = tuple(
            world.Placed(entity, _OVERLAPPING, x, world.SIDE // 2 + shift - _rows(entity.shape, _OVERLAPPING)[end])
            for entity, shift, end in ((upper, rows // 2, 1), (lower, -rows // 2, 0))
        )
        a, b = map(world.coverage, placed)
        if (a * b).sum() / min(a.sum(), b.sum()) >= 0.12:
            break
    return placed


def arrange(
    relation: str, subject: world.Entity, object_: world.Entity, rng: np.random.Generator, background: str = "white"
) -> world.Scene:
    """A scene on the grid, at a random place, in which `subject relation object_` holds."""
    front = True
    if relation in ("above", "below", "left of", "right of"):
        forwards = relation in ("above", "left of")
        first, second = (subject, object_) if forwards else (object_, subject)
        placed = _line(rng, first, second, 8, relation in ("above", "below"))[:: 1 if forwards else -1]
    elif relation == "on":
        placed = _line(rng, subject, object_, 0, vertical=True)
    elif relation == "beside":
        order = _sign(rng)
        placed = _line(rng, *(subject, object_)[::order], 0, vertical=False)[::order]
    elif relation == "inside":
        placed = _nested(rng, subject, object_)
    elif relation == "around":
        placed = _nested(rng, object_, subject)[::-1]
        front = False
    elif relation in ("behind", "in front of"):
        placed = _overlapping(rng, subject, object_)
        front = relation == "in front of"
    elif relation == "far from":
        placed = _corners(rng, subject, object_)
    elif relation in world.ONE_SIDED:
        named, side = world.ONE_SIDED[relation]
        while (scene := arrange(named, subject, object_, rng, background)).side != side:
            pass
        return world.Scene(relation, scene.subject, scene.object, True, background)
    elif relation in ("falling", "rising"):
        placed = _corner_to_corner(rng, subject, object_, relation == "falling")
    elif relation in ("peeking", "crowning"):
        placed = _stacked(rng, subject, object_)
        front = relation == "crowning"
    else:
        raise ValueError(f"unknown relation {relation!r}")
    return world.Scene(relation, *placed, front, background)


def loosened(scene: world.Scene, rng: np.random.Generator) -> world.Scene:
    """The same scene a little larger or smaller and moved, off the grid; all of it stays on the picture."""
    scale, middle = rng.uniform(0.88, 1.08), world.SIDE / 2
    placed = [
        world.Placed(p.entity, round(p.size * scale), *(round((v - middle) * scale + middle) for v in (p.x, p.y)))
        for p in (scene.subject, scene.object)
    ]
    shift = []
    for axis in ("x", "y"):
        low = min(getattr(p, axis) - p.size // 2 for p in placed)
        high = max(getattr(p, axis) - p.size // 2 + p.size for p in placed)
        shift.append(int(rng.integers(-low, world.SIDE - high + 1)))
    subject, object_ = (world.Placed(p.entity, p.size, p.x + shift[0], p.y + shift[1]) for p in placed)
    return world.Scene(scene.relation, subject, object_, scene.subject_in_front, scene.background)


def random_scene(rng: np.random.Generator, held_out_pairs: bool = False) -> world.Scene:
    relation = world.random_relation(rng)
    return arrange(relation, *world.random_pair(rng, held_out_pairs), rng, world.random_background(rng))
