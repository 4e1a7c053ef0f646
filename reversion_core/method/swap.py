"""Contrast with swapped entities, after Relation Rectification (arXiv 2403.20249)."""

import torch
import torch.nn.functional as F

MARGIN = 0.1  # the share of the error by which the swapped caption should be worse


def swap_loss(right: torch.Tensor, swapped: torch.Tensor) -> torch.Tensor:
    """The right caption should explain a picture better than the one with its entities swapped.

    A logistic loss on the relative difference of the denoising errors, [b] each; returns their mean, a scalar.
    """
    return F.softplus((right - swapped) / (MARGIN * right.detach())).mean()
