"""The judge of the drawn world: looks at pixels only and says which entities and which relation it sees.

Colours become masks, a mask becomes the shape, size and place whose drawing overlaps it best (pixels hidden by
the other entity do not count), and two placed shapes become at most one relation by their geometry.
"""

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.fft
from scipy import ndimage

from lab.miniature import world

COLOUR_TOLERANCE = 75.0  # Euclidean distance in 8-bit RGB from which a pixel is no palette colour
SMALLEST_ENTITY = 45  # pixels
SHAPE_OVERLAP = 0.62  # intersection over union under which a mask is no known shape
HIDDEN_WEIGHT = 0.4  # of a pixel that the shape should have but another entity covers
SIZES = tuple(range(12, 61, 2))
MEASURES = ("relation", "entity", "leakage")

_PALETTE = np.array([*world.BACKGROUNDS.values(), *world.COLOURS.values()], dtype=np.float32)
_FRAME = 128  # the pictures are correlated in a frame of this side, so that nothing wraps around


@dataclass(frozen=True)
class Seen:
    """What the judge found: `entities` in order of area, and the relation of each to the other (or None)."""

    entities: tuple[world.Entity, ...]
    relations: dict[world.Pair, str]
    background: str = "white"
    sides: dict[world.Pair, str] = field(default_factory=dict)  # of the second of a pair, where the first stands

    def has(self, entity: world.Entity) -> bool:
        return entity in self.entities

    def relation(self, subject: world.Entity, object_: world.Entity) -> str | None:
        return self.relations.get((subject, object_))

    def holds(self, relation: str, subject: world.Entity, object_: world.Entity) -> bool:
        """Whether a relation of the world is seen, one-sided ones from their side only."""
        named, side = world.ONE_SIDED.get(relation, (relation, None))
        right = side is None or side == self.sides.get((subject, object_))
        return right and self.relation(subject, object_) == named


Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class _Fit:
    entity: world.Entity
    mask: np.ndarray  # the pixels of its colour, bool [64, 64]
    drawing: np.ndarray  # the fitted shape, bool [64, 64]

    @property
    def box(self) -> Box:
        rows, columns = np.where(self.drawing.any(1))[0], np.where(self.drawing.any(0))[0]
        return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


@functools.cache
def _templates() -> tuple[list[tuple[str, int]], np.ndarray, np.ndarray]:
    """Every shape at every size: drawings bool [n, 64, 64] centred on (32, 32), spectra and (shape, size)."""
    names = [(shape, size) for shape in world.SHAPES for size in SIZES]
    centre = world.SIDE // 2
    drawings = np.stack(
        [world.coverage(world.Placed(world.Entity("red", s), size, centre, centre)) >= 0.5 for s, size in names]
    )
    framed = np.zeros((len(names), _FRAME, _FRAME), dtype=np.float32)
    framed[:, : world.SIDE, : world.SIDE] = drawings
    return names, drawings, np.conj(scipy.fft.rfft2(framed))


def _spectrum(mask: np.ndarray) -> np.ndarray:
    framed = np.zeros((_FRAME, _FRAME), dtype=np.float32)
    framed[: world.SIDE, : world.SIDE] = mask
    return scipy.fft.rfft2(framed)


def _shifted(drawing: np.ndarray, dy: int, dx: int) -> np.ndarray:
    result = np.zeros_like(drawing)
    side = world.SIDE
    result[max(dy, 0) : side + min(dy, 0), max(dx, 0) : side + min(dx, 0)] = drawing[
        max(-dy, 0) : side + min(-dy, 0), max(-dx, 0) : side + min(-dx, 0)
    ]
    return result


def _extent(mask: np.ndarray) -> int:
    rows, columns = np.where(mask.any(1))[0], np.where(mask.any(0))[0]
    return max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1


def _fit_shape(mask: np.ndarray, hidden: np.ndarray) -> tuple[str, float, np.ndarray]:
    """The best (shape, overlap, drawing) for a colour mask; missing pixels that are `hidden` count `HIDDEN_WEIGHT`."""
    names, drawings, spectra = _templates()
    extent = _extent(mask)
    chosen = [i for i, (_, size) in enumerate(names) if extent - 4 <= size <= max(extent * 1.7, extent + 4)]
    intersection = scipy.fft.irfft2(spectra[chosen] * _spectrum(mask), s=(_FRAME, _FRAME))
    expected = scipy.fft.irfft2(spectra[chosen] * _spectrum(np.where(hidden, HIDDEN_WEIGHT, 1.0)), s=(_FRAME, _FRAME))
    # Shapes are centred at (32, 32), so a shift of up to 32 pixels either way covers every place on the picture.
    reach = np.r_[0:28, _FRAME - 28 : _FRAME]
    intersection, expected = (x[:, reach][:, :, reach] for x in (intersection, expected))
    score = intersection / np.maximum(expected + mask.sum() - intersection, 1)
    best = np.unravel_index(score.argmax(), score.shape)
    index = chosen[best[0]]
    dy, dx = (int(reach[k]) if reach[k] < _FRAME // 2 else int(reach[k]) - _FRAME for k in best[1:])
    return names[index][0], float(score[best]), _shifted(drawings[index], dy, dx)


def _colour_masks(picture: np.ndarray) -> dict[str, np.ndarray]:
    """Colour name -> bool [64, 64], without the thin rims that anti-aliasing paints in other colours."""
    distance = np.linalg.norm(picture[:, :, None].astype(np.float32) - _PALETTE, axis=-1)
    nearest = np.where(distance.min(-1) < COLOUR_TOLERANCE, distance.argmin(-1), -1)
    masks = {}
    for index, colour in enumerate(world.COLOURS, start=len(world.BACKGROUNDS)):
        mask = nearest == index
        if mask.sum() >= SMALLEST_ENTITY:
            mask &= ndimage.uniform_filter(mask.astype(np.float32), 3) > 0.5
            if mask.sum() >= SMALLEST_ENTITY:
                masks[colour] = mask
    return masks


def _largest_piece(mask: np.ndarray) -> np.ndarray:
    """The mask without crumbs: connected pieces under a sixth of the largest are dropped."""
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    areas = ndimage.sum_labels(mask, labels, np.arange(1, count + 1))
    return np.isin(labels, np.flatnonzero(areas >= areas.max() / 6) + 1)


def look(picture: np.ndarray) -> Seen:
    """Judge a picture, uint8 [64, 64, 3] RGB. Entities that are no clear shape are not seen."""
    masks = {colour: _largest_piece(mask) for colour, mask in _colour_masks(picture).items()}
    fits = []
    for colour, mask in masks.items():
        hidden = np.zeros_like(mask)
        for other, other_mask in masks.items():
            if other != colour:
                hidden |= other_mask
        shape, overlap, drawing = _fit_shape(mask, ndimage.binary_dilation(hidden))
        if overlap >= SHAPE_OVERLAP:
            fits.append(_Fit(world.Entity(colour, shape), mask, drawing))
    fits.sort(key=lambda fit: -fit.mask.sum())
    relations, sides = {}, {}
    if len(fits) == 2:
        for a, b in (fits, fits[::-1]):
            sides[a.entity, b.entity] = world.side_of(_centre(a.box), _centre(b.box))
            if (relation := _relation(a, b)) is not None:
                relations[a.entity, b.entity] = relation
    return Seen(tuple(fit.entity for fit in fits), relations, _background(picture), sides)


def _background(picture: np.ndarray) -> str:
    """The background whose colour most of the picture's rim is nearest to."""
    rim = np.concatenate([picture[:2], picture[-2:], picture[:, :2].swapaxes(0, 1), picture[:, -2:].swapaxes(0, 1)], 1)
    palette = np.array(list(world.BACKGROUNDS.values()), dtype=np.float32)
    nearest = np.linalg.norm(rim.reshape(-1, 1, 3) - palette, axis=-1).argmin(1)
    return list(world.BACKGROUNDS)[np.bincount(nearest, minlength=len(palette)).argmax()]


def measures(
    pictures: Sequence[np.ndarray],
    pairs: Sequence[world.Pair],
    relation: str,
    exemplar_entities: Collection[world.Entity] = (),
) -> dict[str, np.ndarray]:
    """The measures of pictures of pairs in a relation, each a bool a picture: {"relation", "entity", "leakage": [n]}.

    relation: the relation is seen between the two entities that were asked for, this way round; entity: both of these
    are seen, each a colour with a shape; leakage: an entity of the exemplars is seen that was not asked for.
    pairs: (subject, object) of each picture; exemplar_entities: what the exemplars show.
    """
    seen = [look(picture) for picture in pictures]
    both = list(zip(seen, pairs, strict=True))
    return {
        "relation": np.array([found.holds(relation, *pair) for found, pair in both]),
        "entity": np.array([all(found.has(entity) for entity in pair) for found, pair in both]),
        "leakage": np.array([any(e in exemplar_entities and e not in pair for e in f.entities) for f, pair in both]),
    }


def _relation(a: _Fit, b: _Fit) -> str | None:
    """The relation `a ... b` of two fitted shapes, or None where the world has no word for it."""
    both = a.drawing & b.drawing
    share = both.sum() / min(a.drawing.sum(), b.drawing.sum())
    ratio = a.drawing.sum() / b.drawing.sum()
    if share >= 0.7 and not 1 / 1.8 < ratio < 1.8:
        small = a if ratio < 1 else b
        if (small.mask & both).sum() < 0.5 * both.sum():
            return None  # the small one is hidden
        return "inside" if small is a else "around"
    gap_x, gap_y = _gaps(a.box, b.box)
    if share >= 0.06 and max(gap_x, gap_y) <= -4:
        seen_a, seen_b = (a.mask & both).sum(), (b.mask & both).sum()
        if seen_a == seen_b:
            return None
        aside, down = (abs(x - y) for x, y in zip(_centre(a.box), _centre(b.box), strict=True))
        if aside <= 5 and down >= 10:  # straight above one another: no word means this
            return ("crowning" if seen_a > seen_b else "peeking") if a.box[1] < b.box[1] else None
        return "in front of" if seen_a > seen_b else "behind"
    return _apart(a.box, b.box)


def _gaps(a: Box, b: Box) -> tuple[int, int]:
    """Horizontal and vertical gap of two boxes (left, top, right, bottom); negative where they overlap."""
    return max(b[0] - a[2], a[0] - b[2]), max(b[1] - a[3], a[1] - b[3])


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _apart(a: Box, b: Box) -> str | None:
    """The relation of two separate bounding boxes (left, top, right, bottom)."""
    gap_x, gap_y = _gaps(a, b)
    if gap_x >= 5 and gap_y >= 5:
        return "far from"
    left, upper = a[0] + a[2] < b[0] + b[2], a[1] + a[3] < b[1] + b[3]
    if min(gap_x, gap_y) >= -5:  # corner to corner
        return ("falling" if upper else "rising") if left else None
    if gap_y > gap_x:
        if gap_y <= 3:
            return "on" if upper else None
        return "above" if upper else "below"
    if gap_x <= 3:
        return "beside"
    return "left of" if left else "right of"
