"""The losses of an update, a row each: the update, its record, the charts and the CSV read this table.

A loss from denoising errors has a value for each piece of a micro-batch that goes through the network at once; one from
the vectors has one for each micro-batch and touches R only.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from ..method.prior import PRIORS
from ..method.steering import Steering, steering_loss
from ..method.swap import swap_loss
from .inputs import TrainingData, TrainingInputs

if TYPE_CHECKING:
    from ..host import HostModel


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """Everything random in one micro-batch of b samples."""

    exemplars: torch.Tensor  # int64 [b]
    captions: tuple[int, ...]  # b numbers of templates
    timesteps: torch.Tensor  # int64 [b]
    posterior_noise: torch.Tensor  # standard normal [b, ...], for the sample of the first stage's posterior
    noise: torch.Tensor  # standard normal [b, ...]
    positives: torch.Tensor  # int64 [b, P], numbers of basis words

    def split(self, size: int) -> "Iterator[MicroBatch]":
        """The same samples in pieces of at most `size`."""
        tensors = (self.exemplars, self.timesteps, self.posterior_noise, self.noise, self.positives)
        pieces = zip(*(tensor.split(size) for tensor in tensors), strict=True)
        for start, (exemplars, *others) in zip(range(0, len(self.captions), size), pieces, strict=True):
            yield MicroBatch(exemplars, self.captions[start : start + size], *others)


class DenoisingErrors:
    """The denoising errors of a piece, eq. 1 of `reversion_core.method`: the mean square of each sample.

    Each is computed once, when it is first asked for.
    """

    def __init__(self, model: "HostModel", data: TrainingData, piece: MicroBatch, features: dict[int, dict]):
        """features: number of a template -> its text features, to which gradients flow."""
        self._model, self._data, self._piece, self._features = model, data, piece, features

    def _of(self, templates: Sequence[int]) -> torch.Tensor:
        piece, data = self._piece, self._data
        x0 = data.mean[piece.exemplars] + data.std[piece.exemplars] * piece.posterior_noise
        features = [self._features[t] for t in templates]
        error = self._model.prediction_error(x0, piece.noise, piece.timesteps, features)
        return error.square().flatten(1).mean(1)

    @cached_property
    def for_captions(self) -> torch.Tensor:
        """With each sample's own caption, float32 [b]."""
        return self._of(self._piece.captions)

    @cached_property
    def for_swapped_captions(self) -> torch.Tensor:
        """With the entities of each sample's caption swapped, float32 [b]; only where the inputs ask for these."""
        return self._of([self._data.swapped[c] for c in self._piece.captions])


@dataclass(frozen=True)
class Loss:
    """title: of its chart; weight(inputs): its factor in the sum, 0 leaves it out; one of the two functions."""

    title: str
    weight: Callable[[TrainingInputs], float]
    from_denoising_errors: Callable[[DenoisingErrors], torch.Tensor] | None = None
    from_vectors: Callable[[dict[str, torch.Tensor], TrainingData, MicroBatch, Steering], torch.Tensor] | None = None


def _steer(
    relation: dict[str, torch.Tensor], data: TrainingData, batch: MicroBatch, steering: Steering
) -> torch.Tensor:
    """Eq. 2 of `reversion_core.method` on one micro-batch, in the mean over the text encoders."""
    negatives = [word for c in batch.captions for word in (*data.negatives[c], *data.always_negative)]
    losses = [
        steering_loss(
            vectors,
            data.basis_rows[key][batch.positives.flatten()],
            data.negative_rows[key][negatives],
            steering.temperature,
        )
        for key, vectors in relation.items()
    ]
    return torch.stack(losses).mean()


LOSSES = {
    "denoise": Loss(
        "denoising loss",
        lambda inputs: inputs.settings.denoise_weight,
        from_denoising_errors=lambda errors: errors.for_captions.mean(),
    ),
    "steer": Loss(
        "steering loss",
        lambda inputs: inputs.steering.weight if PRIORS[inputs.prior].steers else 0.0,
        from_vectors=_steer,
    ),
    "swap": Loss(
        "contrast with swapped captions",
        lambda inputs: inputs.steering.swap,
        from_denoising_errors=lambda errors: swap_loss(errors.for_captions, errors.for_swapped_captions),
    ),
}


def weights(inputs: TrainingInputs) -> dict[str, float]:
    """Name -> weight of the losses that a training uses."""
    return {name: weight for name, loss in LOSSES.items() if (weight := loss.weight(inputs))}
