"""What a run does beside learning, and what it gives."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..store import relation


@dataclass(frozen=True)
class RunOptions:
    """What a run does beside learning.

    folder: where the runs are kept; label: readable part of this run's folder; save_every: updates between two saves,
    0 for none but the last; preview_every: updates between two preview pictures, 0 for none but the last, None for
    none; resume: go on from an equal run that was stopped; prompt: of the previews, with `<R>`; low_memory: as little
    of it as possible from the start; on_message: called with each sentence that the artist should read.
    """

    folder: Path
    label: str = "relation"
    save_every: int = 0
    resume: bool = True
    preview_every: int | None = None
    prompt: str = ""
    low_memory: bool = False
    on_message: Callable[[str], None] = lambda text: None


@dataclass(eq=False)
class TrainingResult:
    """relation; history: a record for each update; previews: uint8 [h, w, 3] each; messages: what was told."""

    relation: relation.Relation
    history: list[dict[str, float]]
    previews: list[np.ndarray]
    messages: list[str] = dataclasses.field(default_factory=list)
