"""The preposition prior and the norm of R: what R is held to after each update."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

FROM_PRESET = "preset"  # in place of a name: what the preset of the training settings says


def orthonormal(rows: torch.Tensor) -> torch.Tensor:
    """An orthonormal basis of the span of rows [n, d]: float32 [r, d], r <= n their rank."""
    _, sizes, directions = torch.linalg.svd(rows.double(), full_matrices=False)
    return directions[sizes > 1e-6 * sizes[0]].float()


def project(vectors: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Vectors [k, d] projected on the span of orthonormal directions [r, d]."""
    return vectors @ directions.T @ directions


def rescale(vectors: torch.Tensor, norm: float) -> torch.Tensor:
    """Vectors [k, d] with every norm set to `norm`."""
    return vectors * (norm / vectors.norm(dim=-1, keepdim=True))


@dataclass(frozen=True)
class Prior:
    """How R is tied to the basis of prepositions.

    steers: whether the steering loss counts; hold(vectors, directions): what R [k, d] becomes after each update, from
    an orthonormal basis [r, d] of the span of the basis words; None leaves R where the losses put it.
    """

    steers: bool = True
    hold: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None


PRIORS = {
    "pull": Prior(),  # as published: the steering loss alone pulls R to the basis and away from entities
    "span": Prior(hold=project),  # a combination of the basis words has little room for the look of the exemplars
    "none": Prior(steers=False),  # Textual Inversion
}


@dataclass(frozen=True)
class Norm:
    """What becomes of the norm of R.

    hold(vectors, norm): what R [k, d] becomes after each update, from the norm of an ordinary word; None lets it grow.
    """

    hold: Callable[[torch.Tensor, float], torch.Tensor] | None = None


NORMS = {
    "free": Norm(),  # as published
    "vocabulary": Norm(hold=rescale),
}
