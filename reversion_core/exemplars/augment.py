"""Views: pictures made from an exemplar that show the same relation, for trainings on one or two pictures.

What tells one relation from another stays: no view is mirrored, turned or squashed, so that left stays left and above
stays above. What is no part of it changes a little:

- the colours, but where a caption of the picture names one: that word has to stay true;
- the place and size of everything, by cutting off a little of the rim. Nothing is laid around a picture: the model
  would see the seam in most views and learn it. A tenth of a side is too little to lose either of two things.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..method.words import split_words
from .collection import Exemplars, training_picture


@dataclass(frozen=True)
class Augmentation:
    """How the views of a picture differ; the first is the picture itself.

    count: views of a picture; crop: the largest share of a side that is cut off; hue: the largest turn of the colours,
    in degrees; saturation, brightness: the largest change, as a share.
    """

    count: int = 1
    crop: float = 0.0
    hue: float = 0.0
    saturation: float = 0.0
    brightness: float = 0.0


AUGMENTATIONS = {
    "none": Augmentation(),
    "views": Augmentation(count=8, crop=0.1, hue=30.0, saturation=0.3, brightness=0.15),
}

_COLOURS = """
    red orange yellow green blue purple violet pink brown black white grey gray beige cream ivory tan khaki olive
    crimson scarlet maroon burgundy magenta fuchsia cyan turquoise teal aqua navy indigo azure lilac lavender mauve
    gold golden silver silvery bronze copper amber blond blonde brunette ginger auburn rosy ruddy
    reddish orangish yellowish greenish bluish purplish pinkish brownish blackish whitish greyish grayish
    colour color colours colors coloured colored colourful colorful colourless colorless multicoloured multicolored
    monochrome monochromatic sepia pastel neon rainbow pale dark bright
"""
COLOUR_WORDS = frozenset(_COLOURS.split())
_CHINESE_COLOUR = re.compile("[红紅橙黄黃绿綠青蓝藍紫粉棕褐黑白灰银銀色]")
# Brightness, and two axes of colour around which grey stands still.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def colour_words(captions: Iterable[str]) -> tuple[str, ...]:
    """The distinct words of captions, in English or Chinese, that name a colour, in order."""
    found = {}
    for caption in captions:
        parts = [part for word in split_words(caption) for part in word.split("-")]
        found |= dict.fromkeys(part for part in parts if part in COLOUR_WORDS or _CHINESE_COLOUR.search(part))
    return tuple(found)


def each_view(exemplars: Exemplars, side: int, name: str, seed: int) -> Iterator[np.ndarray]:
    """The views of every exemplar, one exemplar after the other, float32 [side, side, 3] in 0..1.

    name: of `AUGMENTATIONS`; the same seed gives the same views.
    """
    row = AUGMENTATIONS[name]
    for number, (picture, captions) in enumerate(zip(exemplars.pictures, exemplars.captions, strict=True)):
        yield training_picture(picture, side, exemplars.fit)
        rng, more = np.random.default_rng((seed, number)), row.count - 1
        keeps_colours = bool(colour_words(captions))
        # Evenly spread over the views, in an order of its own each: chance must not make all of them alike.
        crops = rng.permutation(np.arange(1, more + 1) / max(more, 1))
        hues, saturations, brightnesses = (rng.permutation(np.linspace(-1, 1, more)) for _ in range(3))
        for i in range(more):
            view = _cropped(picture, row.crop * crops[i], rng.uniform(-1, 1, 2))
            view = training_picture(view, side, exemplars.fit)
            if not keeps_colours:
                saturation, brightness = 1 + row.saturation * saturations[i], 1 + row.brightness * brightnesses[i]
                view = recoloured(view, row.hue * hues[i], saturation, brightness)
            yield view


def view_notes(exemplars: Exemplars, name: str) -> list[str]:
    """What the artist should know of the views, a sentence each."""
    count = AUGMENTATIONS[name].count
    if count == 1:
        return []
    named = dict(zip(exemplars.names, map(colour_words, exemplars.captions), strict=True))
    kept = [f"{picture} ({', '.join(words[:3])})" for picture, words in named.items() if words]
    notes = [f"learns from {count} views of each picture, cut and coloured a little differently"]
    if kept:
        more = f" and {len(kept) - 6} more" if len(kept) > 6 else ""
        notes.append(f"the colours stay where a caption names one: {', '.join(kept[:6])}{more}")
    return notes


def recoloured(picture: np.ndarray, hue: float, saturation: float, brightness: float) -> np.ndarray:
    """Float32 [h, w, 3] in 0..1 with its colours turned by `hue` degrees, and two factors; grey stays grey."""
    angle = np.radians(hue)
    cosine, sine = saturation * np.cos(angle), saturation * np.sin(angle)
    turned = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    matrix = brightness * np.linalg.inv(_YIQ) @ turned @ _YIQ
    return (picture @ matrix.T.astype(np.float32)).clip(0, 1)


def _cropped(picture, share, place):
    """uint8 [h, w, 3] without this share of its sides.

    place: (down, across) in -1..1; what a square from the middle shows of it lies inside of what it shows of all.
    """
    height, width = picture.shape[:2]
    room = share * min(height, width) / 2
    box = []
    for length, where in zip((height, width), place, strict=True):
        kept = max(round(length * (1 - share)), 1)
        start = round((length - kept) / 2 + room * where)
        box.append(slice(max(start, 0), max(start, 0) + kept))
    return picture[tuple(box)]
