"""The drawn world of the miniature: two coloured shapes in one relation on a 64 x 64 picture.

A picture is 64 x 64 pixels, or the same drawn larger; positions and sizes are in pixels, x to the right, y downwards.
Everything random is drawn from the `numpy.random.Generator` that is passed in.
"""

import functools
import hashlib
from dataclasses import dataclass

import numpy as np

SIDE = 64
# No caption names a background: it is a look that exemplars can share without a word for it.
BACKGROUNDS = {"white": (242, 242, 242), "sand": (244, 220, 176), "sky": (186, 216, 250), "sage": (200, 226, 188)}
BACKGROUND_SHARES = (0.64, 0.12, 0.12, 0.12)
COLOURS = {
    "red": (220, 30, 30),
    "orange": (255, 145, 0),
    "yellow": (250, 225, 30),
    "green": (30, 150, 50),
    "blue": (30, 70, 225),
    "purple": (125, 35, 165),
    "pink": (255, 125, 195),
    "black": (25, 25, 25),
}
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "star", "heart", "oval")

# The relation's own words first, then its synonyms. Together with "and" they hold the default word basis.
RELATION_WORDS = {
    "inside": ("inside", "in", "into", "within", "amid", "among"),
    "around": ("around", "round", "outside", "about"),
    "above": ("above", "over", "up"),
    "below": ("below", "under", "beneath", "underneath", "down"),
    "left of": ("left of", "before"),
    "right of": ("right of", "after", "past"),
    "on": ("on", "upon", "onto", "atop", "on top of"),
    "behind": ("behind", "beyond"),
    "in front of": ("in front of", "across", "through"),
    "beside": ("beside", "by", "near", "with", "at", "along", "alongside", "against", "next to"),
    "far from": ("far from", "from", "off", "opposite", "out of"),
}
RELATIONS = tuple(RELATION_WORDS)
SYMMETRIC = ("beside", "far from")
# Drawn, but named by no caption: the subject touches the object corner to corner, at its upper left ("falling") or its
# lower left ("rising"); it looks out from behind the object's top ("peeking") or covers it ("crowning").
WORDLESS = ("falling", "rising", "peeking", "crowning")
WORDLESS_SHARE = 0.14  # of the scenes
# Relations of which words say one part only: the relation that is named, and from which side. "far from" is said of any
# two opposite corners, "beside" of both sides.
ONE_SIDED = {
    "descending": ("far from", "upper left"),
    "ascending": ("far from", "lower left"),
    "leading": ("beside", "left"),
}
HELD_OUT_SHARE = 0.12


@dataclass(frozen=True)
class Entity:
    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"


Pair = tuple[Entity, Entity]


@dataclass(frozen=True)
class Placed:
    """An entity on the picture: its width and the centre of its bounding box, in pixels."""

    entity: Entity
    size: int
    x: int
    y: int


@dataclass(frozen=True)
class Scene:
    """`subject relation object`; `subject_in_front` is the drawing order where the two overlap."""

    relation: str
    subject: Placed
    object: Placed
    subject_in_front: bool
    background: str = "white"

    @property
    def pair(self) -> Pair:
        return self.subject.entity, self.object.entity

    @property
    def side(self) -> str:
        """Of the object that the subject stands at: "left", "lower right" ..., "" where they share the centre."""
        return side_of((self.subject.x, self.subject.y), (self.object.x, self.object.y))


def side_of(place: tuple[float, float], other: tuple[float, float], tolerance: float = 4) -> str:
    """On which side of another place a place (x, y) lies: "left", "upper right" ...; "" for the same."""
    dx, dy = place[0] - other[0], place[1] - other[1]
    across = "" if abs(dx) < tolerance else "left" if dx < 0 else "right"
    along = "" if abs(dy) < tolerance else "upper" if dy < 0 else "lower"
    return f"{along} {across}".strip()


def shape_height(shape: str, size: int) -> int:
    return round(size * 0.6) if shape == "oval" else size


def _covers(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Whether the points (u, v) lie in the shape; its bounding box is [-1, 1] x [-1, 1]."""
    if shape in ("circle", "oval"):
        return u * u + v * v <= 1
    if shape == "square":
        return np.ones_like(u, dtype=bool)
    if shape == "triangle":
        return np.abs(u) <= (v + 1) / 2
    if shape == "diamond":
        return np.abs(u) + np.abs(v) <= 1
    if shape == "cross":
        return (np.abs(u) <= 0.36) | (np.abs(v) <= 0.36)
    if shape == "heart":
        lobes = (np.abs(u) - 0.5) ** 2 + ((v + 0.45) / 1.1) ** 2 <= 0.25
        return lobes | ((v >= -0.45) & (np.abs(u) <= (1 - v) / 1.45))
    if shape == "star":
        angle = np.arctan2(u, -v) % (2 * np.pi / 5)
        angle = np.minimum(angle, 2 * np.pi / 5 - angle)
        radius = np.hypot(u, v)
        inner = 0.45
        # The edge from the tip (1, 0) to the notch (inner, 36 degrees), as a half plane.
        notch_x, notch_y = inner * np.cos(np.pi / 5), inner * np.sin(np.pi / 5)
        x, y = radius * np.cos(angle), radius * np.sin(angle)
        return (x - 1) * notch_y - y * (notch_x - 1) <= 0
    raise ValueError(f"unknown shape {shape!r}")


_OVERSAMPLING = 4


@functools.cache
def shape_mask(shape: str, size: int, scale: int = 1) -> np.ndarray:
    """Coverage of each pixel, float32 [height * scale, size * scale] in 0..1, anti-aliased. scale: 1, 2 or 4."""
    height = shape_height(shape, size)
    u = (np.arange(size * _OVERSAMPLING) + 0.5) / (size * _OVERSAMPLING) * 2 - 1
    v = (np.arange(height * _OVERSAMPLING) + 0.5) / (height * _OVERSAMPLING) * 2 - 1
    inside = _covers(shape, *np.meshgrid(u, v)).astype(np.float32)
    points = _OVERSAMPLING // scale
    mask = inside.reshape(height * scale, points, size * scale, points).mean(axis=(1, 3))
    mask.setflags(write=False)
    return mask


def coverage(placed: Placed, scale: int = 1) -> np.ndarray:
    """Coverage of the whole picture by one placed entity, float32 [64 * scale, 64 * scale]."""
    mask = shape_mask(placed.entity.shape, placed.size, scale)
    side, size = SIDE * scale, placed.size
    top = (placed.y - shape_height(placed.entity.shape, size) // 2) * scale
    left = (placed.x - size // 2) * scale
    canvas = np.zeros((side, side), dtype=np.float32)
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + mask.shape[0], side), min(left + mask.shape[1], side)
    canvas[y0:y1, x0:x1] = mask[y0 - top : y1 - top, x0 - left : x1 - left]
    return canvas


def render(scene: Scene, scale: int = 1) -> np.ndarray:
    """The picture of a scene, uint8 [64 * scale, 64 * scale, 3] RGB."""
    side = SIDE * scale
    picture = np.full((side, side, 3), BACKGROUNDS[scene.background], dtype=np.float32)
    layers = [scene.object, scene.subject] if scene.subject_in_front else [scene.subject, scene.object]
    for placed in layers:
        alpha = coverage(placed, scale)[..., None]
        picture += alpha * (np.array(COLOURS[placed.entity.colour], dtype=np.float32) - picture)
    return np.round(picture).astype(np.uint8)


def reduced(picture: np.ndarray) -> np.ndarray:
    """A picture [64 n, 64 n, 3] as it looks at 64 x 64 pixels, uint8 [64, 64, 3]."""
    n = picture.shape[0] // SIDE
    return np.round(picture.reshape(SIDE, n, SIDE, n, -1).mean(axis=(1, 3))).astype(np.uint8)


def held_out(first: Entity, second: Entity) -> bool:
    """Whether this pair of entities, in either order, is kept out of the miniature's training."""
    text = "|".join(sorted((str(first), str(second))))
    return hashlib.sha256(text.encode()).digest()[0] < HELD_OUT_SHARE * 256


def random_pair(rng: np.random.Generator, held_out_pairs: bool = False) -> Pair:
    """Two entities of different colour and different shape, from the training pairs or the held-out ones."""
    while True:
        colours = rng.choice(list(COLOURS), 2, replace=False)
        shapes = rng.choice(SHAPES, 2, replace=False)
        pair = Entity(str(colours[0]), str(shapes[0])), Entity(str(colours[1]), str(shapes[1]))
        if held_out(*pair) == held_out_pairs:
            return pair


def random_relation(rng: np.random.Generator) -> str:
    """A relation to draw: one without a word in `WORDLESS_SHARE` of the scenes."""
    return str(rng.choice(WORDLESS if rng.random() < WORDLESS_SHARE else RELATIONS))


def random_background(rng: np.random.Generator) -> str:
    return str(rng.choice(list(BACKGROUNDS), p=BACKGROUND_SHARES))
