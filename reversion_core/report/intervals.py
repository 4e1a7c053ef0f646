"""Means with bootstrap intervals."""

from collections.abc import Iterable, Sequence

import numpy as np

Interval = dict[str, float]  # "mean", "low", "high"


def interval(samples: Iterable[Sequence[float]], draws: int = 4000, seed: int = 0) -> Interval:
    """Mean of all samples and its bootstrap 95% interval; samples: a number a picture, by training or by prompt.

    The groups are redrawn, and then the pictures of each that was, anew each time it was: trainings of one method
    differ more than its pictures, and so do prompts. A group weighs as much as it has pictures.
    """
    rng = np.random.default_rng(seed)
    samples = [np.asarray(s, dtype=float) for s in samples]
    sizes = np.array([len(s) for s in samples])
    starts, every = np.cumsum(sizes) - sizes, np.concatenate(samples)
    chosen = rng.integers(0, len(samples), (draws, len(samples)))
    sums = np.empty(chosen.shape)  # of the pictures redrawn for each place
    for size in np.unique(sizes):
        here = sizes[chosen] == size
        redrawn = rng.integers(0, size, (here.sum(), size))
        sums[here] = every[starts[chosen[here]][:, None] + redrawn].sum(1)
    means = sums.sum(1) / sizes[chosen].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": float(every.mean()), "low": float(low), "high": float(high)}
