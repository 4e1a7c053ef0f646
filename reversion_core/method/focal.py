"""Relation-focal importance sampling of the timestep (eq. 3 of `reversion_core.method`)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Focal:
    """How timesteps are drawn.

    alpha in [0, 1]: 0 draws them uniformly, 1 most often where the noise is high; start, end: the range in shares of T;
    law: a name of `LAWS`.
    """

    alpha: float = 0.5
    start: float = 0.0
    end: float = 1.0
    law: str = "focal"


def relative_density(t: torch.Tensor, alpha: float) -> torch.Tensor:
    """T f(t) = 1 - alpha cos(pi t / T), whose mean over t is 1; t: a tensor of shares of T in 0..1."""
    return 1 - alpha * torch.cos(math.pi * t)


def logit_normal_density(t: torch.Tensor, alpha: float) -> torch.Tensor:
    """The logit-normal density of SD 3 (arXiv 2403.03206, section 3.1) with location alpha and scale 1; t in (0, 1)."""
    t = t.clamp(1e-6, 1 - 1e-6)
    return torch.exp(-0.5 * (torch.logit(t) - alpha) ** 2) / (math.sqrt(2 * math.pi) * t * (1 - t))


# Laws of the timestep: a density over shares of T, by alpha. It need not be normalised.
LAWS: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "focal": relative_density,
    "logit-normal": logit_normal_density,
}


def distribution(timesteps: int, focal: Focal) -> torch.Tensor:
    """Probability of each timestep 0 .. T - 1, limited to the focal's range: float64 [T], sum 1."""
    t = torch.arange(timesteps, dtype=torch.float64)
    f = LAWS[focal.law](t / timesteps, focal.alpha)
    first = min(round(focal.start * timesteps), timesteps - 1)
    within = (t >= first) & (t < max(round(focal.end * timesteps), first + 1))
    f = torch.where(within, f, 0.0)
    f = f if f.any() else within.double()  # of timestep 0 alone, where f of alpha 1 is 0
    return f / f.sum()


def cumulative(timesteps: int, focal: Focal) -> torch.Tensor:
    """Cumulative distribution of the timesteps: float64 [T], ends in 1."""
    cdf = torch.cumsum(distribution(timesteps, focal), 0)
    return cdf / cdf[-1]


def draw_timesteps(cdf: torch.Tensor, count: int, generator: torch.Generator, stratified: bool = False) -> torch.Tensor:
    """`count` timesteps by the inverse of the cumulative distribution: int64 [count].

    Stratified draws take one from each of `count` equally likely parts, in random order: the same expectation with
    less variance.
    """
    u = torch.rand(count, generator=generator, dtype=torch.float64)
    if stratified:
        u = (torch.randperm(count, generator=generator) + u) / count
    return torch.searchsorted(cdf, u, right=True).clamp(max=len(cdf) - 1)


def quantiles(u: torch.Tensor, alpha: float) -> torch.Tensor:
    """The shares of T at which the integral of f from 0 is u: float64, same shape as u in 0..1; exact to 1e-9."""
    t = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    reached = t - alpha * torch.sin(math.pi * t) / math.pi
    above = torch.searchsorted(reached, u.double()).clamp(1, len(t) - 1)
    share = (u - reached[above - 1]) / (reached[above] - reached[above - 1])
    return t[above - 1] + share * (t[above] - t[above - 1])
