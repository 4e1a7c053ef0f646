"""What `make benchmark` measures: conditions, methods, the plain words beside them, and every cell of the design."""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

from lab.miniature import world
from lab.miniature.forms import SHARED
from reversion_core.method.focal import Focal
from reversion_core.method.steering import Steering
from reversion_core.training.settings import PRESETS, TrainSettings

RELATIONS = ("inside", "above", "left of", "on", "behind", "beside")
PAIRS, EXEMPLARS = 25, 8
# Of the host's KSampler. With euler, twice as many steps and a higher scale are no better on the miniature.
SAMPLING = {"steps": 10, "cfg": 2.5}
PRECISION = "bf16"  # all methods compute in it, in half of the time of fp32


@dataclasses.dataclass(frozen=True)
class Condition:
    """What the exemplars are like.

    relations x seeds: the trainings of a method; coarse: captions name shapes only; shared_look: all exemplars have the
    same two colours and the same background, which no caption names; exemplars: how many there are.
    """

    relations: tuple[str, ...]
    seeds: tuple[int, ...]
    coarse: bool = False
    shared_look: bool = False
    exemplars: int = EXEMPLARS


_CONFOUNDED = Condition(("inside", "above", "left of", "on", "behind"), (0, 1), coarse=True, shared_look=True)
CONDITIONS = {
    "full": Condition(RELATIONS, (0,)),
    "coarse": Condition(RELATIONS, (0,), coarse=True),
    "confounded": _CONFOUNDED,
    "one picture": dataclasses.replace(_CONFOUNDED, seeds=(0,), exemplars=1),
    "wordless": Condition(tuple(world.ONE_SIDED), (0, 1, 2, 3)),
    "unnamed": Condition(world.WORDLESS, (0,)),
}
HARD = ("confounded", "wordless")


@dataclasses.dataclass(frozen=True)
class Method:
    """A preset as the node runs it, and what differs from it. seeds, relations: where there is no time for all of a
    condition."""

    preset: str = "paper"
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    steering: Steering = dataclasses.field(default_factory=Steering)
    focal: Focal = dataclasses.field(default_factory=Focal)
    conditions: tuple[str, ...] = ("full", "coarse", "confounded", "wordless")
    seeds: tuple[int, ...] | None = None
    relations: tuple[str, ...] | None = None

    def measures(self, relation: str, seed: int) -> bool:
        """Whether there is time for this training."""
        return seed in (self.seeds or (seed,)) and relation in (self.relations or (relation,))

    def train_settings(self, seed: int) -> TrainSettings:
        return dataclasses.replace(PRESETS[self.preset], seed=seed, **{"precision": PRECISION, **self.settings})


# At the size of the preset that is the default: methods are compared at the same number of pictures.
_SAME = {name: getattr(PRESETS["balanced"], name) for name in ("steps", "batch_size", "accumulation", "learning_rate")}
WORDS = ("best word", "and")


class WordSearch(NamedTuple):
    """How the best word of a relation without one is found, on pairs that are never measured: of all words on a few,
    of the best few on more."""

    screening_pairs: int = 8
    choosing_pairs: int = 40
    finalists: int = 6
    seed: int = 1000


WORD_SEARCH = WordSearch()
_PLAIN = Steering(prior="none"), Focal(alpha=0.0)  # denoising alone, at uniform timesteps
METHODS = {
    "Textual Inversion": Method("paper", _SAME, *_PLAIN, tuple(CONDITIONS)),
    "Textual Inversion at its rate": Method(
        "paper", _SAME | {"learning_rate": PRESETS["paper"].learning_rate}, *_PLAIN, HARD, seeds=(0,)
    ),
    "balanced": Method("balanced", conditions=tuple(CONDITIONS)),
    "no prior": Method("balanced", {"prior": "none"}, conditions=HARD),
    "pull": Method("balanced", {"prior": "pull"}, conditions=("full", *HARD)),
    "fast": Method("fast", seeds=(0,)),
    "one picture": Method("one picture", conditions=("one picture",)),
    "one picture, no views": Method("one picture", {"augmentation": "none"}, conditions=("one picture",)),
    "DTI": Method("balanced", {"optimizer": "tangent"}, *_PLAIN, HARD, seeds=(0,)),
    "steering 1": Method("balanced", {"prior": "pull"}, Steering(weight=1.0), conditions=HARD, seeds=(0,)),
    "balanced + swap": Method("balanced", steering=Steering(swap=0.01), conditions=HARD, seeds=(0,)),
    "balanced in fp32": Method(
        "balanced", {"precision": "fp32"}, conditions=("confounded",), seeds=(0,), relations=("above", "inside")
    ),
    "uniform t": Method("balanced", focal=Focal(alpha=0.0), conditions=("full", "confounded"), seeds=(0,)),
    "paper": Method(conditions=HARD, seeds=(0,), relations=("above", "inside", "descending")),
}
_MAIN, _QUICK = (*WORDS, "Textual Inversion", "balanced"), ("above", "descending")
CURVE_METHODS = ("Textual Inversion", "balanced", "uniform t")
CURVE_STEPS = (5, 10, 20, 40, 80, 160)  # and the last


class Cell(NamedTuple):
    """One measurement of the benchmark. seed: of exemplars, look and training."""

    condition: str
    method: str
    relation: str
    seed: int


def cells(quick: bool = False) -> Iterator[Cell]:
    """Every cell to measure, the most telling first: the methods that the hard conditions are to tell apart."""
    conditions = (*HARD, *(name for name in CONDITIONS if name not in HARD))
    everything = []
    for name in conditions:
        condition = CONDITIONS[name]
        for method in (*WORDS, *METHODS):
            given = METHODS.get(method)
            if given and name not in given.conditions:
                continue
            for relation, seed in itertools.product(condition.relations, condition.seeds):
                left_out = given and not given.measures(relation, seed)
                # Entities are swapped only where that says something else.
                if not left_out and not ("swap" in method and relation in world.SYMMETRIC):
                    everything.append(Cell(name, method, relation, seed))
    everything.sort(key=_rank)
    if quick:
        everything = [c for c in everything if c.method in _MAIN and c.seed == 0 and c.relation in _QUICK]
    yield from everything


def _rank(cell: Cell) -> tuple:
    hard, main = cell.condition in HARD, cell.method in _MAIN
    part = cell.method in ("no prior", "pull", "DTI", "uniform t") and cell.seed == 0
    if hard and main:
        tier = 0
    elif part and cell.condition == "confounded":
        tier = 1
    elif main and cell.condition in ("full", "unnamed"):
        tier = 2
    elif cell.method == "paper":  # learns from seven times as many pictures
        tier = 3
    elif part:
        tier = 4
    elif cell.method in ("steering 1", "balanced + swap"):
        tier = 5
    elif cell.condition == "one picture":
        tier = 6
    else:
        tier = 7
    return tier, cell.seed


def weights() -> str:
    """12 hex digits of the miniature that everything is measured on."""
    return hashlib.sha256(SHARED.read_bytes()).hexdigest()[:12]


def design(cell: Cell, pairs: int) -> str:
    """12 hex digits that change with what a cell measures and how, but for the code and the miniature."""
    given, condition = METHODS.get(cell.method), CONDITIONS[cell.condition]
    parts = [pairs, SAMPLING, condition.coarse, condition.shared_look, condition.exemplars, first_noise(cell.seed)]
    if cell.method == "best word":
        parts.append(WORD_SEARCH)
    if given:
        parts += [given.train_settings(cell.seed), given.steering, given.focal]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def first_noise(seed: int) -> int:
    """The seed of the noise of the first picture that is drawn with a training: of each other pictures."""
    return 100 + 1000 * seed


def has_curve(cell: Cell) -> bool:
    """Whether a training is measured on the way too: an exemplar's look takes twice as many pictures."""
    measured = cell.condition in ("full", "wordless") or (
        cell.condition == "confounded" and cell.relation in ("above", "inside")
    )
    return measured and cell.seed == 0 and cell.method in CURVE_METHODS
