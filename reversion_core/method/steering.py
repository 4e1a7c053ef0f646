"""Relation-steering contrastive learning (METHOD eq. 2: arXiv 2303.13495, section 4.2)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .words import PREPOSITIONS


@dataclass(frozen=True)
class Steering:
    """weight: lambda_steer; temperature: gamma; positives: words drawn from the basis for each sample."""

    weight: float = 0.01
    temperature: float = 0.07
    positives: int = 4
    basis: tuple = PREPOSITIONS
    extra_negatives: tuple = ()


def steering_loss(relation, positives, negatives, temperature):
    """Multi-instance InfoNCE, -log(sum_l exp(r.p_l / gamma) / (sum_l exp(r.p_l / gamma) + sum_m exp(r.n_m / gamma))).

    relation [k, d]: each vector is pulled by itself; positives [n, P, d]: P basis words for each of n samples;
    negatives [M, d]. All are input token embeddings and are L2-normalised here. Returns the mean over samples and
    vectors, a scalar.
    """
    r = F.normalize(relation, dim=-1)
    to_positives = torch.einsum("kd,npd->nkp", r, F.normalize(positives, dim=-1)) / temperature
    to_negatives = torch.einsum("kd,md->km", r, F.normalize(negatives, dim=-1)) / temperature
    attract = torch.logsumexp(to_positives, -1)
    both = torch.logsumexp(torch.cat([to_positives, to_negatives.expand(len(positives), -1, -1)], -1), -1)
    return (both - attract).mean()


def draw_positives(basis_size, count, samples, generator):
    """Indices of `count` basis words for each sample, at random without replacement: int64 [samples, count]."""
    return torch.stack([torch.randperm(basis_size, generator=generator)[:count] for _ in range(samples)])
