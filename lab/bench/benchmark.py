"""`make benchmark`: relation inversion measured beside its baselines, on the miniature.

Every cell learns one relation in one way (or uses a plain word) and draws held-out pairs of entities with it; the judge
counts. Cells that are done are kept in build/benchmark/report.json, learned relations beside it, so a run that was
stopped goes on where it was. `--quick` does a few cells in under ten minutes.
"""

import argparse
import dataclasses
import datetime
import hashlib
import itertools
import json
import logging
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from lab.bench import tables
from lab.harness import comfyui
from lab.harness.studio import Studio
from lab.miniature import judge, pack, world
from lab.miniature.exemplars import unseen_pairs, write_exemplars
from lab.miniature.judge import MEASURES
from reversion_core.exemplars import read_folder
from reversion_core.method.focal import Focal
from reversion_core.method.steering import Steering
from reversion_core.store.files import write_whole
from reversion_core.training.settings import PRESETS

FOLDER = comfyui.ROOT / "build" / "benchmark"
PUBLISHED = comfyui.ROOT / "docs" / "benchmark.json"
RELATIONS = ("inside", "above", "left of", "on", "behind", "beside")
CAPTIONS = ("full", "coarse")
PAIRS, EXEMPLARS = 25, 8
SEEDS = (0, 1)
# A fiftieth of the published 3,000 updates, of half as many samples: enough here for every method to level off.
STEPS, FAST_STEPS = 60, 24
CURVE = (5, 10, 15, 20, 30, 45)  # and the last
COUNTS = (1, 2, 4, 8)
# Of the host's KSampler. With euler, twice as many steps and a higher scale are no better on the miniature; a sampler
# that adds noise on the way mends more of what it drew wrong.
PLAIN = {"steps": 10, "cfg": 2.5}
MENDING = {"steps": 20, "cfg": 2.5, "sampler": "dpmpp_2m_sde", "scheduler": "karras"}


@dataclasses.dataclass(frozen=True)
class Method:
    """settings, steering, focal: what differs from a preset, whose recipe is used at `STEPS` updates of 4 samples."""

    settings: dict = dataclasses.field(default_factory=dict)
    steering: Steering = dataclasses.field(default_factory=Steering)
    focal: Focal = dataclasses.field(default_factory=Focal)
    preset: str = "paper"

    def train_settings(self, seed):
        scaled = {"steps": STEPS, "batch_size": 2, "accumulation": 2}
        return dataclasses.replace(PRESETS[self.preset], seed=seed, **{**scaled, **self.settings})


WORDS = {"its own word": None, "and": "and"}
METHODS = {
    "Textual Inversion": Method(steering=Steering(weight=0.0), focal=Focal(alpha=0.0)),
    "paper": Method(),
    "without steering": Method(steering=Steering(weight=0.0)),
    "without focal sampling": Method(focal=Focal(alpha=0.0)),
    "balanced": Method(preset="balanced"),
    "fast": Method({"steps": FAST_STEPS}, preset="fast"),
    "balanced in bf16": Method({"precision": "bf16"}, preset="balanced"),
    "paper + norm control": Method({"norm": "vocabulary"}),
    "paper + swapped negatives": Method({"swap_weight": 0.01}),
    "paper + stratified t": Method({"stratified": True}),
    "paper + 2 vectors": Method({"vectors": 2}),
}
CURVED = ("Textual Inversion", "paper", "balanced", "fast")
STOCHASTIC = (*CURVED, "paper + swapped negatives")
# The question of the whole, asked with four times the pictures, of pairs and noise that no other section has.
DECIDING, DECIDING_PAIRS = ("Textual Inversion", "balanced"), 100


def cells(quick=False):
    """(section, key parts) of everything to measure, the most telling first."""
    relations, seeds = (RELATIONS[:2], SEEDS[:1]) if quick else (RELATIONS, SEEDS)
    for word, relation in itertools.product(WORDS, relations):
        yield "table", ("full", word, relation, 0)
    methods = ("Textual Inversion", "balanced") if quick else METHODS
    for seed, captions, method, relation in itertools.product(seeds, CAPTIONS, methods, relations):
        if _directed(method, relation):
            yield "table", (captions, method, relation, seed)
    if quick:
        return
    for section, methods in (("stochastic", STOCHASTIC), ("deciding", DECIDING)):
        for relation in relations:
            yield section, ("full", "its own word", relation, 0)
        for seed, method, relation in itertools.product(seeds, methods, relations):
            if _directed(method, relation):
                yield section, ("full", method, relation, seed)
    for count, relation in itertools.product(COUNTS, relations):
        yield "exemplars", (count, "balanced", relation, 0)


def _directed(method, relation):
    """Whether the method has a meaning for the relation: entities are swapped only where that says something else."""
    return "swapped" not in method or relation not in world.SYMMETRIC


def exemplars(relation, captions="full", count=EXEMPLARS):
    """(Exemplars, scenes) of a relation: the same pictures for every method."""
    folder = FOLDER / "exemplars" / f"{relation.replace(' ', '-')}-{captions}-{count}"
    scenes = write_exemplars(folder, relation, count, coarse=captions == "coarse")
    return read_folder(folder, "benchmark"), scenes


class Bench:
    def __init__(self, pairs=PAIRS, curves=True):
        self.studio, self.pairs, self.curves = Studio(), pairs, curves

    def learn(self, method, material, seed, on_step=lambda learner: None, folder=FOLDER):
        """What a method learns from exemplars, a `run.Learned`; an equal earlier run's where the folder has one."""
        run, given = self.studio.run, METHODS[method]
        task = run.Task(material, given.train_settings(seed), given.steering, given.focal)
        keeping = run.Keeping(folder / "relations", folder / "logs")
        models = self.studio.model, self.studio.clip, self.studio.vae
        with torch.inference_mode():
            return run.learn_relation(*models, task, keeping, lambda learner, previews: on_step(learner), "benchmark")

    def figures(self, report, folder):
        """Pictures of the run in a folder, from relations that are learned already."""
        from lab.bench import figures

        learned = {}
        for relation in RELATIONS:
            material, scenes = exemplars(relation)
            learned[relation] = scenes, self.learn("balanced", material, 0).relation.vectors
        material, _ = exemplars(RELATIONS[0])
        histories = {method: self.learn(method, material, 0).history for method in CURVED}
        figures.write(self, report, learned, histories, folder)

    def score(self, section, relation, word, vectors, scenes):
        """DESIGN's measures over the unseen pairs of a section, a 0/1 a picture."""
        pairs, first_seed = unseen_pairs(self.pairs, scenes), 100
        if section == "deciding":
            pairs, first_seed = unseen_pairs(self.pairs + DECIDING_PAIRS, scenes)[self.pairs :], 1000
        drawing = MENDING if section in ("stochastic", "deciding") else PLAIN
        return self.measure(relation, word, pairs, vectors, scenes, first_seed, **drawing)[0]

    def measure(self, relation, word, pairs, vectors, scenes, first_seed=100, **drawing):
        """(DESIGN's measures of each picture as 0/1, the pictures) of pairs in a relation, said with a word.

        vectors: of the word where it is "<R>", else None; drawing: of `Studio.draw`.
        """
        clip = self.studio.host.with_relation(self.studio.clip, "<R>", vectors) if vectors else None
        prompts = [f"{subject} {word} {object_}" for subject, object_ in pairs]
        seeds = range(first_seed, first_seed + len(pairs))
        pictures = self.studio.draw(prompts, seeds, clip, **{**PLAIN, **drawing})
        shown = {entity for scene in scenes for entity in scene.pair}
        found = judge.measures(pictures, pairs, relation, shown)
        return {name: values.astype(int).tolist() for name, values in found.items()}, pictures

    def cell(self, section, parts):
        first, method, relation, seed = parts
        captions, count = ("full", first) if section == "exemplars" else (first, EXEMPLARS)
        material, scenes = exemplars(relation, captions, count)
        if method in WORDS:
            return self.score(section, relation, WORDS[method] or relation, None, scenes)
        kept, began = {}, time.monotonic()

        def keep(learner):
            if learner and learner.step in CURVE:
                kept[learner.step] = learner.vectors

        curved = self.curves and section == "table" and method in CURVED and captions == "full" and seed == 0
        with tempfile.TemporaryDirectory() as anew:  # only a run of its own has its steps looked at
            learned = self.learn(method, material, seed, keep, Path(anew) if curved else FOLDER)
        record = {"train_seconds": round(time.monotonic() - began, 1)}
        record |= self.score(section, relation, "<R>", learned.relation.vectors, scenes)
        if curved:
            points = {step: self.score(section, relation, "<R>", vectors, scenes) for step, vectors in kept.items()}
            points[len(learned.history)] = record
            record["curve"] = [{"step": step, **_means(found)} for step, found in points.items()]
        return record


def _means(record):
    return {name: float(np.mean(record[name])) for name in MEASURES}


def interval(samples, draws=2000, seed=0):
    """Mean and bootstrap 95% interval; samples: 0/1 of each picture, by cell. Pictures are drawn anew in each cell."""
    rng = np.random.default_rng(seed)
    samples = [np.asarray(s) for s in samples]
    totals = sum(s[rng.integers(0, len(s), (draws, len(s)))].sum(1) for s in samples)
    means = totals / sum(map(len, samples))
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": float(np.concatenate(samples).mean()), "low": float(low), "high": float(high)}


def summary(done, section="table", conditions=CAPTIONS):
    """Captions -> method -> measure -> mean, low, high; the words, which have no captions, stand under all."""
    result = {}
    for captions in conditions:
        for method in (*WORDS, *METHODS):
            prefix = json.dumps(["full" if method in WORDS else captions, method])[1:-1]
            records = [r for key, r in done.items() if key.startswith(f'["{section}", [{prefix},')]
            if records:
                result.setdefault(captions, {})[method] = {
                    name: interval([r[name] for r in records]) for name in MEASURES
                } | {"pictures": sum(len(r["relation"]) for r in records)}
    return result


def differences(done, section="table", base="Textual Inversion"):
    """Captions -> method -> measure -> mean, low, high of the difference to the base method, picture by picture.

    Both learned from the same exemplars with the same seed and drew the same pairs from the same noise.
    """
    found = {}
    for key, record in done.items():
        of, (captions, method, *rest) = json.loads(key)
        beside = done.get(json.dumps([of, [captions, base, *rest]]))
        if of == section and method in METHODS and method != base and beside:
            found.setdefault(captions, {}).setdefault(method, []).append((record, beside))
    return {
        captions: {
            method: {name: interval([np.subtract(a[name], b[name]) for a, b in pairs]) for name in MEASURES}
            for method, pairs in methods.items()
        }
        for captions, methods in found.items()
    }


def steps_to_final(done, share=0.95):
    """Method -> the first step from which the mean relation accuracy stays at `share` of the last one's."""
    result = {}
    for method in CURVED:
        curves = [r["curve"] for key, r in done.items() if "curve" in r and json.loads(key)[1][1] == method]
        if curves:
            steps = [point["step"] for point in curves[0]]
            means = np.mean([[point["relation"] for point in curve] for curve in curves], 0)
            late = [i for i, mean in enumerate(means) if mean < share * means[-1]]
            result[method] = {
                "steps": dict(zip(map(str, steps), map(float, means), strict=True)),
                "reached_at": steps[late[-1] + 1 if late else 0],
            }
    return result


def by_count(done):
    """Number of exemplars -> measure -> mean, low, high."""
    found = {}
    for key, record in done.items():
        section, (count, *_) = json.loads(key)
        if section == "exemplars":
            found.setdefault(str(count), []).append(record)
    return {
        count: {name: interval([r[name] for r in records]) for name in MEASURES} for count, records in found.items()
    }


def about(arguments):
    import comfyui_version

    def git(*words):
        return subprocess.run(["git", *words], cwd=comfyui.ROOT, capture_output=True, text=True).stdout.strip()

    return {
        "command": "make benchmark" + (" QUICK=1" if arguments.quick else ""),
        "date": datetime.date.today().isoformat(),
        "commit": git("rev-parse", "--short", "HEAD") + (" with changes" if git("status", "--porcelain") else ""),
        "hardware": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "host": comfyui_version.__version__,
        "weights": hashlib.sha256(pack.WEIGHTS.read_bytes()).hexdigest()[:12],
        "relations": len(RELATIONS[:2] if arguments.quick else RELATIONS),
        "seeds": list(SEEDS[:1] if arguments.quick else SEEDS),
        "exemplars": EXEMPLARS,
        "pairs": arguments.pairs,
        "drawing": PLAIN,
    }


def write(path, done, details):
    report = {
        "about": details,
        "summary": summary(done),
        "differences": differences(done),
        **{
            section: {
                "drawing": MENDING,
                "pairs": pairs,
                "summary": summary(done, section, ("full",)),
                "differences": differences(done, section),
            }
            for section, pairs in (("stochastic", details["pairs"]), ("deciding", DECIDING_PAIRS))
        },
        "steps": steps_to_final(done),
        "exemplars": by_count(done),
        "cells": done,
    }
    write_whole(path, json.dumps(report).encode())
    write_whole(path.with_suffix(".md"), tables.of_benchmark(report).encode())
    return report


def cells_of(path, details):
    """The cells of an earlier report, unless they are of other weights or another number of pairs."""
    kept = json.loads(path.read_text()) if path.exists() else {"about": {}}
    same = all(kept["about"].get(name) == details[name] for name in ("weights", "pairs"))
    return kept["cells"] if same else {}


def fill(bench, done, left, hours, save):
    """Measure the cells that are left, for so many hours at most; save() is called after each."""
    began = time.monotonic()
    for i, cell in enumerate(left, 1):
        done[json.dumps(cell)] = record = bench.cell(*cell)
        save()
        spent = time.monotonic() - began
        shares = ", ".join(f"{name} {share:.2f}" for name, share in _means(record).items())
        minutes = spent / i * (len(left) - i) / 60
        name = " / ".join(map(str, cell[1]))
        logging.info("%s: %s; %d left, about %.0f min", name, shares, len(left) - i, minutes)
        if spent > hours * 3600:
            break


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="held-out pairs a cell")
    parser.add_argument("--hours", type=float, default=1e9, help="stop after the cell that is under way then")
    parser.add_argument("--publish", action="store_true", help="write the report and its pictures to docs/")
    arguments = parser.parse_args()
    path = FOLDER / ("quick.json" if arguments.quick else "report.json")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    bench, details = Bench(arguments.pairs, curves=not arguments.quick), about(arguments)
    # A fresh clone goes on from the published report.
    done = cells_of(path if path.exists() or arguments.quick else PUBLISHED, details)
    wanted = list(cells(arguments.quick))
    left = [cell for cell in wanted if json.dumps(cell) not in done]

    def save(path=path):
        details["cells"] = f"{len(done)} of {len(wanted)}"
        return write(path, done, details)

    fill(bench, done, left, arguments.hours, save)
    save()
    if arguments.publish:
        bench.figures(save(PUBLISHED), PUBLISHED.parent)
    print(path.with_suffix(".md").read_text())  # noqa: T201


if __name__ == "__main__":
    main()
