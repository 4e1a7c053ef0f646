"""Training settings and their presets."""

import math
from dataclasses import dataclass, fields, replace

from ..errors import ReVersionError, check_choice

SCHEDULES = ("constant", "linear", "cosine")
NORMS = ("free", "vocabulary")
PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True)
class TrainSettings:
    """How R is optimised.

    steps: updates of R; batch_size x accumulation: pictures an update; learning_rate: of AdamW, as it is applied;
    norm: "vocabulary" keeps each vector of R at the mean norm of the vocabulary; weight_decay: of AdamW;
    swap_weight: of the contrast with the captions whose entities are swapped (arXiv 2403.20249), 0 is off.
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
    stratified: bool = True
    precision: str = "auto"
    denoise_weight: float = 1.0
    swap_weight: float = 0.0
    seed: int = 0

    def rate(self, step):
        """Learning rate of update `step` (from 0): the schedule counts updates, not micro-batches."""
        done = step / self.steps
        shape = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 + 0.5 * math.cos(math.pi * done)}
        return self.learning_rate * shape[self.schedule]


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
        stratified=False,
        precision="fp32",
    ),
}


def from_preset(preset, node="ReVersion Train", **overrides):
    """The preset's settings with every override that is not 0 or "preset". Raises a ReVersionError for bad values."""
    check_choice(preset, PRESETS, node, "preset")
    given = {name: value for name, value in overrides.items() if value not in (0, "preset") or name == "seed"}
    settings = replace(PRESETS[preset], **given)
    for name, lowest, highest in (
        ("steps", 1, 100_000),
        ("batch_size", 1, 64),
        ("accumulation", 1, 64),
        ("learning_rate", 1e-7, 1.0),
        ("vectors", 1, 8),
    ):
        value = getattr(settings, name)
        if not lowest <= value <= highest:
            raise ReVersionError(node, name, f"{value} is out of range", f"give {lowest} to {highest}")
    for name, options in (("schedule", SCHEDULES), ("norm", NORMS), ("precision", PRECISIONS)):
        check_choice(getattr(settings, name), options, node, name)
    return settings


def as_dict(settings):
    return {f.name: getattr(settings, f.name) for f in fields(settings)}
