"""Training settings and their presets."""

import math
from dataclasses import dataclass, replace

import torch

from ..errors import ReVersionError, check_choice
from ..exemplars.augment import AUGMENTATIONS
from ..method.prior import FROM_PRESET, NORMS, PRIORS
from .optimizers import OPTIMIZERS

# The learning rate's share of its start, by the share of the updates that are done.
SCHEDULES = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "cosine": lambda done: 0.5 + 0.5 * math.cos(math.pi * done),
}
# What the model computes in; None is what the host chose.
PRECISIONS = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class TrainSettings:
    """How R is optimised.

    steps: updates of R; batch_size x accumulation: pictures an update; learning_rate: as the optimizer applies it, for
    a token of CLIP; schedule, norm, prior, precision, optimizer, augmentation: names of the tables; stratified: draw
    the timesteps of an update evenly; denoise_weight: lambda_denoise of eq. 4 of `reversion_core.method`.
    """

    steps: int = 400
    batch_size: int = 4
    accumulation: int = 2
    learning_rate: float = 5e-3
    schedule: str = "cosine"
    weight_decay: float = 0.0
    initial_word: str = "and"
    vectors: int = 1
    norm: str = "vocabulary"
    prior: str = "span"
    stratified: bool = True
    precision: str = "auto"
    denoise_weight: float = 1.0
    optimizer: str = "adamw"
    seed: int = 0
    augmentation: str = "none"

    def rate(self, step):
        """Learning rate of update `step` (from 0): the schedule counts updates, not micro-batches."""
        return self.learning_rate * SCHEDULES[self.schedule](step / self.steps)


PRESETS = {
    "balanced": TrainSettings(),
    "fast": TrainSettings(steps=150, accumulation=1, learning_rate=1e-2),
    "paper": TrainSettings(
        steps=3000,
        batch_size=2,
        accumulation=4,
        learning_rate=2e-3,
        schedule="constant",
        weight_decay=1e-2,
        norm="free",
        prior="pull",
        stratified=False,
        precision="fp32",
    ),
    "one picture": TrainSettings(steps=200, accumulation=1, augmentation="views"),
}

_RANGES = {
    "steps": (1, 100_000),
    "batch_size": (1, 64),
    "accumulation": (1, 64),
    "learning_rate": (1e-7, 1.0),
    "vectors": (1, 8),
}
_CHOICES = {
    "schedule": SCHEDULES,
    "norm": NORMS,
    "prior": PRIORS,
    "precision": PRECISIONS,
    "optimizer": OPTIMIZERS,
    "augmentation": AUGMENTATIONS,
}


def from_preset(preset, node="ReVersion Train", **overrides):
    """The preset's settings with every override but 0 and FROM_PRESET. Raises a ReVersionError for bad values."""
    check_choice(preset, PRESETS, node, "preset")
    own = ("seed", "initial_word")  # of which any value may be meant
    given = {name: value for name, value in overrides.items() if name in own or value not in (0, FROM_PRESET)}
    settings = replace(PRESETS[preset], **given)
    for name, (lowest, highest) in _RANGES.items():
        value = getattr(settings, name)
        if not lowest <= value <= highest:  # also refuses NaN
            raise ReVersionError(node, name, f"{value} is out of range", f"give {lowest} to {highest}")
    for name, options in _CHOICES.items():
        check_choice(getattr(settings, name), options, node, name)
    return settings
