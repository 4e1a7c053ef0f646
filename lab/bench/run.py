"""One cell of the benchmark: learn a relation from exemplars, draw unseen pairs with it, and let the judge count."""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lab.bench import methods
from lab.bench.methods import METHODS, WORDS, Cell
from lab.bench.statistics import means
from lab.harness import comfyui
from lab.harness.studio import Studio
from lab.miniature import judge
from lab.miniature.exemplars import unseen_pairs, write_exemplars
from lab.miniature.world import Scene
from reversion_core.exemplars import Exemplars, read_folder
from reversion_core.training.inputs import TrainingInputs

FOLDER = comfyui.ROOT / "build" / "benchmark"
Vectors = dict[str, torch.Tensor]  # encoder key -> float32 [k, d]


def exemplars(
    relation: str, captions: str = "full", count: int = methods.EXEMPLARS
) -> tuple[Exemplars, Sequence[Scene]]:
    """Exemplars of a relation and the scenes they show: the same pictures for every method."""
    folder = FOLDER / "exemplars" / f"{relation.replace(' ', '-')}-{captions}-{count}"
    scenes = write_exemplars(folder, relation, count, coarse=captions == "coarse")
    return read_folder(folder, "benchmark"), scenes


class Runner:
    """Measures cells on the miniature, loaded once. pairs: held-out pairs a cell; curves: also measure on the way."""

    def __init__(self, pairs: int = methods.PAIRS, curves: bool = True):
        self.studio, self.pairs, self.curves = Studio(), pairs, curves

    def learn(
        self,
        method: str,
        material: Exemplars,
        seed: int,
        on_step: Callable[[Any], None] = lambda learner: None,
        folder: Path = FOLDER,
    ):
        """What a method learns from exemplars, a `TrainingResult`; an equal earlier run's where the folder has one.

        on_step(learner) is called before the first update, then with None, and after each.
        """
        run, given = self.studio.run, METHODS[method]
        inputs = TrainingInputs(material, given.train_settings(seed), given.steering, given.focal)
        options = run.RunOptions(folder / "runs", label=method)
        models = self.studio.model, self.studio.clip, self.studio.vae
        with torch.inference_mode():
            return run.learn_relation(*models, inputs, options, lambda learner, previews: on_step(learner), "benchmark")

    def measure(
        self,
        relation: str,
        word: str,
        pairs: Sequence[tuple],
        vectors: Vectors | None,
        scenes: Sequence[Scene],
        first_seed: int = 100,
        **sampling: Any,
    ) -> tuple[dict[str, list[int]], np.ndarray]:
        """(DESIGN's measures of each picture as 0/1, the pictures uint8 [n, 64, 64, 3]) of pairs in a relation.

        word: what says the relation in the prompts; vectors: of the word where it is "<R>", else None; scenes: of the
        exemplars, whose entities must not leak; first_seed: of the first picture's noise; sampling: of `Studio.draw`.
        """
        clip = self.studio.host.with_relation(self.studio.clip, "<R>", vectors) if vectors else None
        prompts = [f"{subject} {word} {object_}" for subject, object_ in pairs]
        seeds = range(first_seed, first_seed + len(pairs))
        pictures = self.studio.draw(prompts, seeds, clip, **{**methods.SAMPLING, **sampling})
        exemplar_entities = {entity for scene in scenes for entity in scene.pair}
        found = judge.measures(pictures, pairs, relation, exemplar_entities)
        return {name: values.astype(int).tolist() for name, values in found.items()}, pictures

    def score(
        self, section: str, relation: str, word: str, vectors: Vectors | None, scenes: Sequence[Scene]
    ) -> dict[str, list[int]]:
        """The measures over the unseen pairs of a section, drawn as it says; the arguments are those of `measure`."""
        pairs, first_seed = unseen_pairs(self.pairs, scenes), 100
        if section == "deciding":
            pairs, first_seed = unseen_pairs(self.pairs + methods.DECIDING_PAIRS, scenes)[self.pairs :], 1000
        stochastic = section in ("stochastic", "deciding")
        sampling = methods.STOCHASTIC_SAMPLING if stochastic else methods.SAMPLING
        return self.measure(relation, word, pairs, vectors, scenes, first_seed, **sampling)[0]

    def record(self, cell: Cell) -> dict[str, Any]:
        """What a cell measures: a 0/1 a picture by measure, the training's seconds, and accuracy over its steps."""
        section, (variant, method, relation, seed) = cell
        captions, count = ("full", variant) if section == "exemplars" else (variant, methods.EXEMPLARS)
        material, scenes = exemplars(relation, captions, count)
        if method in WORDS:
            return self.score(section, relation, WORDS[method] or relation, None, scenes)
        vectors_at, began = {}, time.monotonic()

        def keep(learner) -> None:
            if learner and learner.step in methods.CURVE_STEPS:
                vectors_at[learner.step] = learner.vectors

        first = section == "table" and captions == "full" and seed == 0
        with_curve = self.curves and first and method in methods.CURVE_METHODS
        with tempfile.TemporaryDirectory() as fresh:  # a run taken from disk has no steps to look at
            learned = self.learn(method, material, seed, keep, Path(fresh) if with_curve else FOLDER)
        record = {"train_seconds": round(time.monotonic() - began, 1)}
        record |= self.score(section, relation, "<R>", learned.relation.vectors, scenes)
        if with_curve:
            points = {step: self.score(section, relation, "<R>", v, scenes) for step, v in vectors_at.items()}
            points[len(learned.history)] = record
            record["curve"] = [{"step": step, **means(point)} for step, point in points.items()]
        return record
