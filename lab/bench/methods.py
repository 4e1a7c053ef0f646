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
    "Textual Inversion": Method("paper", _SAME, *_PLAIN, tuple(name for name in CONDITIONS if name != "one picture")),
    "Textual Inversion at its rate": Method(
        "paper", _SAME | {"learning_rate": PRESETS["paper"].learning_rate}, *_PLAIN, HARD, seeds=(0,)
    ),
    "balanced": Method("balanced", conditions=tuple(CONDITIONS)),
    "no prior": Method("balanced", {"prior": "none"}, conditions=HARD),
    "pull": Method("balanced", {"prior": "pull"}, conditions=HARD),
    "fast": Method("fast", conditions=("full", "confounded"), seeds=(0,)),
    "one picture": Method("one picture", conditions=("one picture",)),
    "one picture, no views": Method("one picture", {"augmentation": "none"}, conditions=("one picture",)),
    "DTI": Method("balanced", {"optimizer": "tangent"}, *_PLAIN, HARD),
    "steering 1": Method("balanced", {"prior": "pull"}, Steering(weight=1.0), conditions=HARD, seeds=(0,)),
    "balanced + swap": Method("balanced", steering=Steering(swap=0.01), conditions=HARD, seeds=(0,)),
    "balanced in fp32": Method(
        "balanced", {"precision": "fp32"}, conditions=("confounded",), seeds=(0,), relations=("above", "inside")
    ),
    "uniform t": Method("balanced", focal=Focal(alpha=0.0), conditions=("full", "confounded"), seeds=(0,)),
    "paper": Method(conditions=HARD, seeds=(0,), relations=("above", "inside", "descending")),
}
_MAIN, _QUICK = (*WORDS, "Textual Inversion", "balanced"), ("above", "descending")
_PARTS = ("no prior", "pull", "DTI")
_ANY, _FIRST = range(10), (0,)
# (conditions, methods, seeds) in the order of measuring; what is not among them comes last.
_ORDER = (
    (HARD, _MAIN, _ANY),
    (("confounded",), (*_PARTS, "uniform t"), _FIRST),
    (("full", "unnamed"), _MAIN, _ANY),
    (("confounded",), ("paper", "balanced + swap", "Textual Inversion at its rate", "steering 1"), _ANY),
    (("wordless",), _PARTS, _FIRST),
    (("full",), ("uniform t",), _ANY),
    (("confounded",), _PARTS, _ANY),
    (("coarse",), _MAIN, _ANY),
    (("wordless",), ("balanced + swap", "Textual Inversion at its rate", "steering 1"), _ANY),
    (("one picture",), (*WORDS, "balanced", "one picture", "one picture, no views"), _ANY),
    (("full", "confounded"), ("fast", "balanced in fp32"), _ANY),
)
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


def _rank(cell: Cell) -> tuple[int, int]:
    rows = (
        row
        for row, (conditions, names, seeds) in enumerate(_ORDER)
        if cell.condition in conditions and cell.method in names and cell.seed in seeds
    )
    return next(rows, len(_ORDER)), cell.seed


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
