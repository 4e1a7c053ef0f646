"""Pictures of a benchmark run for docs/: accuracy over steps, training curves, relation sheets, R among the words."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image

from lab.bench.run import Runner, Vectors
from lab.miniature import world
from lab.miniature.exemplars import unseen_pairs
from reversion_core.method.words import PREPOSITIONS
from reversion_core.report import inspection

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402


def accuracy_over_steps(report: dict[str, Any]) -> Figure:
    """Mean relation accuracy of each method against updates of R."""
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for method, row in report["steps"].items():
        steps = list(map(int, row["steps"]))
        axes.plot(steps, [100 * v for v in row["steps"].values()], marker="o", markersize=3, label=method)
    word = report["summary"]["full"]["its own word"]["relation"]["mean"]
    axes.axhline(100 * word, linestyle="--", color="grey", label="the relation's own word")
    axes.set(xlabel="updates of R", ylabel="relation accuracy, %", ylim=(0, 100))
    axes.legend(fontsize=8)
    return figure


def training_curves(histories: dict[str, list[dict[str, float]]]) -> Figure:
    """Denoising loss (smoothed), norm and similarity to the word basis; histories: label -> a record per update."""
    figure, columns = plt.subplots(1, 3, figsize=(10.5, 3.2), layout="constrained")
    for label, history in histories.items():
        for axes, name in zip(columns, ("denoise", "norm", "similarity"), strict=True):
            values = np.array([record[name] for record in history])
            if name == "denoise":
                window = min(20, len(values))
                values = np.convolve(values, np.ones(window) / window, "valid")
            axes.plot(values, label=label, linewidth=1.2)
            axes.set(xlabel="updates of R", title=name)
    columns[0].legend(fontsize=8)
    return figure


def among_words(runner: Runner, learned: dict[str, torch.Tensor]) -> Figure:
    """PCA of the learned vectors among prepositions, entity words and "and"; learned: relation -> float32 [k, 768]."""
    groups = {
        "prepositions": PREPOSITIONS,
        "entities": (*world.COLOURS, *world.SHAPES),
        "initial word": ("and",),
    }
    host, clip = runner.studio.host, runner.studio.clip
    rows = {name: host.word_rows(clip, "clip_l", words) for name, words in groups.items()}
    plane = inspection.plane(torch.cat([rows["prepositions"], rows["entities"]]))
    rows["R"] = torch.cat([vectors.mean(0, keepdim=True) for vectors in learned.values()])
    figure, axes = plt.subplots(figsize=(6.4, 5), layout="constrained")
    names = {**groups, "R": tuple(f"R: {relation}" for relation in learned)}
    for (group, part), marker in zip(rows.items(), ("o", "s", "^", "*"), strict=True):
        places = inspection.on_plane(part, *plane)
        axes.scatter(*places.T, marker=marker, s=60 if group == "R" else 18, label=group)
        for place, name in zip(places, names[group], strict=True):
            axes.annotate(name, place, fontsize=6, xytext=(2, 2), textcoords="offset points")
    axes.legend(fontsize=8)
    return figure


def relation_sheet(
    runner: Runner, relation: str, scenes: Sequence[world.Scene], vectors: Vectors, columns: int = 8
) -> np.ndarray:
    """Exemplars above the same number of unseen pairs drawn with R: uint8 [2 x 64, columns x 64, 3]."""
    pairs = unseen_pairs(columns, scenes)
    drawn = runner.measure(relation, "<R>", pairs, vectors, scenes)[1]
    exemplars = [world.render(scene) for scene in scenes[:columns]]
    return np.concatenate([np.concatenate(row, axis=1) for row in (exemplars, drawn)])


def write(
    runner: Runner,
    report: dict[str, Any],
    learned: dict[str, tuple[Sequence[world.Scene], Vectors]],
    histories: dict[str, list[dict[str, float]]],
    folder: Path,
) -> None:
    """Write every picture into a folder; learned: relation -> (scenes, vectors); histories: method -> its updates."""
    accuracy_over_steps(report).savefig(folder / "benchmark-steps.png", dpi=110)
    training_curves(histories).savefig(folder / "benchmark-training.png", dpi=110)
    vectors = {relation: found["clip_l"] for relation, (_, found) in learned.items()}
    among_words(runner, vectors).savefig(folder / "benchmark-words.png", dpi=110)
    sheets = [relation_sheet(runner, relation, *found) for relation, found in learned.items()]
    gap = np.full((8, sheets[0].shape[1], 3), 255, np.uint8)
    stacked = np.concatenate([part for sheet in sheets for part in (sheet, gap)][:-1])
    picture = Image.fromarray(stacked)
    picture.resize([2 * side for side in picture.size], Image.Resampling.NEAREST).save(
        folder / "benchmark-relations.png", optimize=True
    )
    plt.close("all")
