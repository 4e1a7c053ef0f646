"""Relation-focal importance sampling of the timestep (METHOD eq. 3: arXiv 2303.13495, section 4.3)."""

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Focal:
    """alpha in [0, 1]: 0 draws timesteps uniformly, 1 most often where the noise is high. Range in shares of T."""

    alpha: float = 0.5
    start: float = 0.0
    end: float = 1.0


def density(timesteps, alpha):
    """f(t) = (1 - alpha cos(pi t / T)) / T for t = 0 .. T - 1, normalised to sum 1: float64 [T]."""
    t = torch.arange(timesteps, dtype=torch.float64)
    f = (1 - alpha * torch.cos(math.pi * t / timesteps)) / timesteps
    return f / f.sum()


def relative_density(t, alpha):
    """T f(t), whose mean over t is 1; t: a tensor of shares of T in 0..1."""
    return 1 - alpha * torch.cos(math.pi * t)


def quantiles(u, alpha):
    """The shares of T at which the integral of f from 0 is u: float64, same shape as u in 0..1; exact to 1e-9."""
    t = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    reached = t - alpha * torch.sin(math.pi * t) / math.pi
    above = torch.searchsorted(reached, u.double()).clamp(1, len(t) - 1)
    share = (u - reached[above - 1]) / (reached[above] - reached[above - 1])
    return t[above - 1] + share * (t[above] - t[above - 1])


def distribution(timesteps, focal):
    """f limited to the focal's range, sum 1: float64 [T]."""
    f, t = density(timesteps, focal.alpha), torch.arange(timesteps)
    f = f * ((t >= round(focal.start * timesteps)) & (t < max(round(focal.end * timesteps), 1)))
    return f / f.sum()


def cumulative(timesteps, focal):
    """Cumulative distribution of the timesteps: float64 [T], ends in 1."""
    cdf = torch.cumsum(distribution(timesteps, focal), 0)
    return cdf / cdf[-1]


def draw_timesteps(cdf, count, generator, stratified=False):
    """`count` timesteps by the inverse of the cumulative distribution: int64 [count].

    Stratified draws take one from each of `count` equally likely parts, in random order: the same expectation with
    less variance.
    """
    u = torch.rand(count, generator=generator, dtype=torch.float64)
    if stratified:
        u = (torch.randperm(count, generator=generator) + u) / count
    return torch.searchsorted(cdf, u, right=True).clamp(max=len(cdf) - 1)
