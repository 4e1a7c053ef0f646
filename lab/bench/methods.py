"""What `make benchmark` measures: the methods, the plain words beside them, and every cell of the design."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

from lab.miniature import world
from reversion_core.method.focal import Focal
from reversion_core.method.steering import Steering
from reversion_core.training.settings import PRESETS, TrainSettings

RELATIONS = ("inside", "above", "left of", "on", "behind", "beside")
CAPTIONS = ("full", "coarse")
PAIRS, EXEMPLARS = 25, 8
SEEDS = (0, 1)
# A fiftieth of the published 3,000 updates, of half as many samples: enough here for every method to level off.
STEPS, FAST_STEPS = 60, 24
CURVE_STEPS = (5, 10, 15, 20, 30, 45)  # and the last
EXEMPLAR_COUNTS = (1, 2, 4, 8)
# Of the host's KSampler. With euler, twice as many steps and a higher scale are no better on the miniature; a sampler
# that adds noise between its steps corrects more of what it drew wrong.
SAMPLING = {"steps": 10, "cfg": 2.5}
STOCHASTIC_SAMPLING = {"steps": 20, "cfg": 2.5, "sampler": "dpmpp_2m_sde", "scheduler": "karras"}


@dataclasses.dataclass(frozen=True)
class Method:
    """settings, steering, focal: what differs from a preset, whose recipe is used at `STEPS` updates of 4 samples."""

    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    steering: Steering = dataclasses.field(default_factory=Steering)
    focal: Focal = dataclasses.field(default_factory=Focal)
    preset: str = "paper"

    def train_settings(self, seed: int) -> TrainSettings:
        scaled = {"steps": STEPS, "batch_size": 2, "accumulation": 2}
        return dataclasses.replace(PRESETS[self.preset], seed=seed, **{**scaled, **self.settings})


WORDS = {"its own word": None, "and": "and"}  # label -> the word, None for the relation's own
METHODS = {
    "Textual Inversion": Method(steering=Steering(weight=0.0), focal=Focal(alpha=0.0)),
    "paper": Method(),
    "without steering": Method(steering=Steering(weight=0.0)),
    "without focal sampling": Method(focal=Focal(alpha=0.0)),
    "balanced": Method(preset="balanced"),
    "fast": Method({"steps": FAST_STEPS}, preset="fast"),
    "balanced in bf16": Method({"precision": "bf16"}, preset="balanced"),
    "paper + norm control": Method({"norm": "vocabulary"}),
    "paper + swapped negatives": Method(steering=Steering(swap=0.01)),
    "paper + stratified t": Method({"stratified": True}),
    "paper + 2 vectors": Method({"vectors": 2}),
}
CURVE_METHODS = ("Textual Inversion", "paper", "balanced", "fast")
STOCHASTIC_METHODS = (*CURVE_METHODS, "paper + swapped negatives")
# The main comparison, made with four times the pictures, of pairs and noise that no other section has.
DECIDING_METHODS, DECIDING_PAIRS = ("Textual Inversion", "balanced"), 100


class Condition(NamedTuple):
    """How R is learned. variant: the kind of captions or, in the section "exemplars", the number of exemplars."""

    variant: str | int
    method: str
    relation: str
    seed: int


class Cell(NamedTuple):
    """One measurement of the benchmark."""

    section: str
    condition: Condition


def cells(quick: bool = False) -> Iterator[Cell]:
    """Every cell to measure, the most telling first. quick: a few of the first."""
    relations, seeds = (RELATIONS[:2], SEEDS[:1]) if quick else (RELATIONS, SEEDS)
    methods = ("Textual Inversion", "balanced") if quick else tuple(METHODS)
    for word, relation in itertools.product(WORDS, relations):
        yield Cell("table", Condition("full", word, relation, 0))
    for seed, captions in itertools.product(seeds, CAPTIONS):
        yield from _trainings("table", captions, methods, relations, seed)
    if quick:
        return
    for section, methods in (("stochastic", STOCHASTIC_METHODS), ("deciding", DECIDING_METHODS)):
        for relation in relations:
            yield Cell(section, Condition("full", "its own word", relation, 0))
        for seed in seeds:
            yield from _trainings(section, "full", methods, relations, seed)
    for count in EXEMPLAR_COUNTS:
        yield from _trainings("exemplars", count, ("balanced",), relations, 0)


def _trainings(
    section: str, variant: str | int, methods: tuple[str, ...], relations: tuple[str, ...], seed: int
) -> Iterator[Cell]:
    for method, relation in itertools.product(methods, relations):
        # Entities are swapped only where that says something else.
        if "swapped" not in method or relation not in world.SYMMETRIC:
            yield Cell(section, Condition(variant, method, relation, seed))
