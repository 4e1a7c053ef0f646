"""What goes into a training: exemplars and settings as given, then as tensors."""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ..exemplars import Exemplars
from ..exemplars.augment import AUGMENTATIONS, each_view
from ..method.focal import Focal
from ..method.prior import orthonormal
from ..method.steering import Steering
from ..method.words import swapped
from .settings import FROM_PRESET, TrainSettings


@dataclass(frozen=True, eq=False)
class TrainingInputs:
    """Everything that a training depends on but the model."""

    exemplars: Exemplars
    settings: TrainSettings
    steering: Steering
    focal: Focal

    @property
    def prior(self) -> str:
        """The name of the prior: what the steering asks for, else the settings."""
        return self.settings.prior if self.steering.prior == FROM_PRESET else self.steering.prior

    @property
    def captions(self) -> tuple[str, ...]:
        """The distinct caption templates, in order."""
        return tuple(dict.fromkeys(c for of_one in self.exemplars.captions for c in of_one))

    @property
    def templates(self) -> tuple[str, ...]:
        """The templates to encode: the distinct captions, their swapped forms where they are asked for."""
        return (*self.captions, *(map(swapped, self.captions) if self.steering.swap else ()))

    def each_view(self, size: int) -> Iterator[np.ndarray]:
        """The pictures that are trained on, float32 [size, size, 3] in 0..1: all views of each exemplar in turn."""
        return each_view(self.exemplars, size, self.settings.augmentation, self.settings.seed)

    @property
    def view_captions(self) -> tuple[tuple[str, ...], ...]:
        """The caption templates of each picture of `each_view`."""
        count = AUGMENTATIONS[self.settings.augmentation].count
        return tuple(of_one for of_one in self.exemplars.captions for _ in range(count))

    def key_parts(self, size: int) -> dict[str, str]:
        """Name of an input -> text that changes with it, for all but the number of steps; size: of the pictures."""
        given = {
            f.name.replace("_", " "): getattr(values, f.name)
            for values in (self.focal, self.steering, self.settings)
            for f in dataclasses.fields(values)
        }
        del given["steps"]
        if given["augmentation"] == "none":
            del given["augmentation"]  # runs from before there was any are found again
        given |= {"prior": self.prior, "training size": size, "captions": self.exemplars.captions}
        pictures = hashlib.sha256()
        for picture in self.exemplars.each_fitted(size):
            pictures.update(picture.tobytes())
        return {name: str(value) for name, value in given.items()} | {"pictures": pictures.hexdigest()}


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What stays the same during a training, as tensors.

    mean, std: the first stage's posterior in the model's scale, float32 [n, ...]; captions: for each of the n pictures
    the numbers of its templates; negatives: for each template the numbers of its entity words, every occurrence;
    always_negative: numbers of the words that count for every sample; negative_words: the words themselves; swapped:
    for each template the number of its swapped form, where that is asked for; basis_rows, negative_rows: encoder key
    -> input token embeddings, float32 [words, d]; norms: encoder key -> norm of an ordinary word; rates: encoder key
    -> learning rate in units of CLIP's, 1 for CLIP itself.
    """

    mean: torch.Tensor
    std: torch.Tensor
    captions: tuple[tuple[int, ...], ...]
    negatives: tuple[tuple[int, ...], ...]
    basis_rows: dict[str, torch.Tensor]
    negative_rows: dict[str, torch.Tensor]
    norms: dict[str, float]
    always_negative: tuple[int, ...] = ()
    negative_words: tuple[str, ...] = ()
    swapped: tuple[int, ...] = ()
    rates: dict[str, float] = dataclasses.field(default_factory=dict)

    @cached_property
    def span(self) -> dict[str, torch.Tensor]:
        """Encoder key -> an orthonormal basis of the span of the basis words, float32 [r, d]."""
        return {key: orthonormal(rows) for key, rows in self.basis_rows.items()}

    def only(self, pictures: Sequence[int]) -> "TrainingData":
        """The same with these of its pictures."""
        captions = tuple(self.captions[number] for number in pictures)
        kept = list(pictures)
        return dataclasses.replace(self, mean=self.mean[kept], std=self.std[kept], captions=captions)
