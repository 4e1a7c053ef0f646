"""Exemplars: pictures that share a relation, with captions in which `{}` stands for it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

FITS = ("crop", "pad")


@dataclass(frozen=True, eq=False)
class Exemplars:
    """names [n]; pictures [n], each uint8 [height, width, 3]; captions [n], each a tuple of templates with `{}`.

    size: training size in pixels, 0 for automatic; fit: "crop" the middle square or "pad" to a square; notes: what the
    artist should know of how they were read, a sentence each; label: what to call them, "" for their first caption.
    """

    names: tuple[str, ...]
    pictures: tuple[np.ndarray, ...]
    captions: tuple[tuple[str, ...], ...]
    size: int = 0
    fit: str = "crop"
    notes: tuple[str, ...] = ()
    label: str = ""

    def smallest(self) -> tuple[int, int]:
        """(number, shorter side in pixels) of the picture whose shorter side is the shortest."""
        sides = [min(picture.shape[:2]) for picture in self.pictures]
        return sides.index(min(sides)), min(sides)

    def training_size(self, native: int) -> int:
        """The side of the training pictures: `size`, or the model's native one but never an enlargement."""
        return self.size or max(min(native, self.smallest()[1]) // 8 * 8, 8)

    def fitted(self, side: int) -> np.ndarray:
        """Pictures as the model is shown them, float32 [n, side, side, 3] in 0..1."""
        return np.stack(list(self.each_fitted(side)))

    def each_fitted(self, side: int) -> Iterator[np.ndarray]:
        """The pictures of `fitted`, one at a time: hundreds of them would take gigabytes."""
        for picture in self.pictures:
            yield training_picture(picture, side, self.fit)


def training_picture(picture: np.ndarray, side: int, fit: str) -> np.ndarray:
    """uint8 [h, w, 3] as the model is shown it, float32 [side, side, 3] in 0..1."""
    return fit_square(picture, side, fit).astype(np.float32) / 255


def fit_square(picture: np.ndarray, side: int, fit: str) -> np.ndarray:
    """Resize uint8 [h, w, 3] to [side, side, 3] without squashing: crop the middle, or pad with white."""
    image = Image.fromarray(picture)
    if fit == "crop":
        return np.asarray(ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS))
    return np.asarray(ImageOps.pad(image, (side, side), Image.Resampling.LANCZOS, color=(255, 255, 255)))
