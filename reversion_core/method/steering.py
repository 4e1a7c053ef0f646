"""Relation-steering contrastive learning (eq. 2 of `reversion_core.method`)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .prior import FROM_PRESET
from .words import PREPOSITIONS


@dataclass(frozen=True)
class Steering:
    """How words steer the relation.

    weight: lambda_steer; temperature: gamma; positives: words drawn from the basis for each sample; basis: the words
    that relations are like; extra_negatives: words to stay away from, beside the captions' entities; prior: a name of
    `prior.PRIORS` or FROM_PRESET; swap: weight of the contrast with swapped captions.
    """

    weight: float = 0.01
    temperature: float = 0.07
    positives: int = 4
    basis: tuple[str, ...] = PREPOSITIONS
    extra_negatives: tuple[str, ...] = ()
    prior: str = FROM_PRESET
    swap: float = 0.0


def steering_loss(
    relation: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Multi-instance InfoNCE, -log(sum_l exp(r.p_l / gamma) / (sum_l exp(r.p_l / gamma) + sum_m exp(r.n_m / gamma))).

    One softmax for a whole micro-batch, as published: relation [k, d]; positives [P, d] of all its samples; negatives
    [M, d], a word once for every time it occurs. All are input token embeddings and are L2-normalised here. Returns
    the mean over the k vectors, a scalar.
    """
    r = F.normalize(relation, dim=-1)
    attract = torch.logsumexp(r @ F.normalize(positives, dim=-1).T / temperature, -1)
    repel = torch.logsumexp(r @ F.normalize(negatives, dim=-1).T / temperature, -1)
    return F.softplus(repel - attract).mean()


def draw_positives(basis_size: int, count: int, samples: int, generator: torch.Generator) -> torch.Tensor:
    """Numbers of `count` basis words for each sample, drawn without replacement: int64 [samples, count]."""
    return torch.stack([torch.randperm(basis_size, generator=generator)[:count] for _ in range(samples)])
