"""One cell of the benchmark: learn a relation from exemplars, draw unseen pairs with it, and let the judge count."""

import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lab.bench import methods
from lab.bench.methods import CONDITIONS, METHODS, WORDS, Cell
from lab.harness import comfyui
from lab.harness.studio import Studio
from lab.miniature import judge, world
from lab.miniature.exemplars import Look, random_look, unseen_pairs, write_exemplars
from reversion_core.exemplars import Exemplars, read_folder
from reversion_core.training.inputs import TrainingInputs

FOLDER = comfyui.ROOT / "build" / "benchmark"
Vectors = dict[str, torch.Tensor]  # encoder key -> float32 [k, d]
MEASURES = ("relation", "entity", "leakage", "leakage_open", "background")


def material(condition: str, relation: str, seed: int) -> tuple[Exemplars, list[world.Scene], Look | None]:
    """Exemplars of a cell, the scenes they show, and the look they share: the same for every method."""
    given = CONDITIONS[condition]
    look = random_look(np.random.default_rng((7, seed, *relation.encode()))) if given.shared_look else None
    process = multiprocessing.current_process().name  # another may be writing the same exemplars
    folder = FOLDER / "exemplars" / process / f"{condition}-{relation}-{seed}".replace(" ", "-")
    scenes = write_exemplars(folder, relation, given.exemplars, seed, given.coarse, look)
    return read_folder(folder, "benchmark"), scenes, look


class Runner:
    """Measures cells on the miniature, loaded once.

    pairs: held-out pairs a cell; curves: also measure on the way; best_words: relation -> what `best_word` said before.
    """

    def __init__(self, pairs: int = methods.PAIRS, curves: bool = True, best_words: dict[str, str] | None = None):
        self.studio, self.pairs, self.curves = Studio(), pairs, curves
        self.best_words = dict(best_words or {})

    def learn(
        self,
        method: str,
        exemplars: Exemplars,
        seed: int,
        on_step: Callable[[Any], None] = lambda learner: None,
        folder: Path = FOLDER,
        resume: bool = True,
    ):
        """What a method learns from exemplars, a `TrainingResult`; an equal earlier run's where the folder has one.

        on_step(learner) is called before the first update, then with None, and after each; resume: not so where every
        update has to be seen.
        """
        run, given = self.studio.run, METHODS[method]
        inputs = TrainingInputs(exemplars, given.train_settings(seed), given.steering, given.focal)
        options = run.RunOptions(folder / "runs", label=method, save_every=100, resume=resume)
        models = self.studio.model, self.studio.clip, self.studio.vae
        with torch.inference_mode():
            return run.learn_relation(*models, inputs, options, lambda learner, _: on_step(learner), "benchmark")

    def draw(
        self, word: str, pairs: Sequence[tuple], vectors: Vectors | None, first_seed: int = 100, **sampling: Any
    ) -> np.ndarray:
        """A picture of each pair in a relation, uint8 [n, 64, 64, 3].

        word: what says the relation in the prompts; vectors: of the word where it is "<R>", else None; first_seed: of
        the first picture's noise; sampling: of `Studio.draw`.
        """
        clip = self.studio.host.with_relation(self.studio.clip, "<R>", vectors) if vectors else None
        prompts = [f"{subject} {word} {object_}" for subject, object_ in pairs]
        seeds = range(first_seed, first_seed + len(pairs))
        return self.studio.draw(prompts, seeds, clip, **{**methods.SAMPLING, **sampling})

    def best_word(self, relation: str) -> str:
        """The relation's own word; of a relation without one, the word that draws it most often."""
        if relation not in self.best_words:
            self.best_words[relation] = relation if relation in world.RELATIONS else self._found_word(relation)
        return self.best_words[relation]

    def _found_word(self, relation: str) -> str:
        search = methods.WORD_SEARCH
        pairs = unseen_pairs(search.choosing_pairs, (), search.seed)

        def accuracy(word: str, count: int) -> float:
            pictures = self.draw(word, pairs[:count], None, 5000)
            return float(judge.measures(pictures, pairs[:count], relation)["relation"].mean())

        words = [word for of_one in world.RELATION_WORDS.values() for word in of_one]
        screened = sorted(words, key=lambda word: accuracy(word, search.screening_pairs), reverse=True)
        return max(screened[: search.finalists], key=lambda word: accuracy(word, search.choosing_pairs))

    def score(
        self, cell: Cell, word: str, vectors: Vectors | None, scenes: Sequence[world.Scene], look: Look | None
    ) -> dict[str, list[int]]:
        """The measures of `judge.measures` over the unseen pairs of a cell, a 0/1 a picture.

        leakage: something of the exemplars is seen that was not asked for, where the prompt names something else;
        leakage_open: a shared colour is seen where the prompt names shapes only; background: a shared one is seen.
        """
        pairs = unseen_pairs(self.pairs, scenes, cell.seed, look.colours if look else ())
        noise = methods.first_noise(cell.seed)
        pictures = self.draw(word, pairs, vectors, noise)
        found = judge.measures(pictures, pairs, cell.relation, {entity for scene in scenes for entity in scene.pair})
        if look is not None:
            seen = [judge.look(picture) for picture in pictures]
            found["leakage"] = np.array([any(e.colour in look.colours for e in s.entities) for s in seen])
            found["background"] = np.array([s.background == look.background for s in seen])
            shapes = [(subject.shape, object_.shape) for subject, object_ in pairs]
            seen = [judge.look(picture) for picture in self.draw(word, shapes, vectors, noise)]
            found["leakage_open"] = np.array([any(e.colour in look.colours for e in s.entities) for s in seen])
        return {name: values.astype(int).tolist() for name, values in found.items()}

    def record(self, cell: Cell) -> dict[str, Any]:
        """What a cell measures: a 0/1 a picture by measure, the training's seconds, verdict, and scores on the way."""
        exemplars, scenes, look = material(cell.condition, cell.relation, cell.seed)
        if cell.method in WORDS:
            word = self.best_word(cell.relation) if cell.method == "best word" else cell.method
            return {"word": word, **self.score(cell, word, None, scenes, look)}
        vectors_at, began = {}, time.monotonic()

        def keep(learner) -> None:
            if learner and learner.step in methods.CURVE_STEPS:
                vectors_at[learner.step] = learner.vectors

        with_curve = self.curves and methods.has_curve(cell)
        learned = self.learn(cell.method, exemplars, cell.seed, keep, resume=not with_curve)
        record = {"train_seconds": round(time.monotonic() - began, 1)}
        record["verdict"] = json.loads(learned.relation.metadata.get("reversion.verdict", "null"))
        record |= self.score(cell, "<R>", learned.relation.vectors, scenes, look)
        if with_curve and vectors_at:
            points = {step: self.score(cell, "<R>", v, scenes, look) for step, v in vectors_at.items()}
            points[len(learned.history)] = record
            record["curve"] = [{"step": step, **means(point)} for step, point in points.items()]
        return record


def means(record: dict[str, Any]) -> dict[str, float]:
    """Measure -> its mean over the pictures of one record, for the measures that it has."""
    return {name: float(np.mean(record[name])) for name in MEASURES if name in record}
