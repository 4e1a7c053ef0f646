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


def over_steps(report: dict[str, Any]) -> Figure:
    """Relation accuracy and open leakage of each method against updates of R, a column a condition."""
    figure, columns = plt.subplots(1, len(report["curves"]), figsize=(4.2 * len(report["curves"]), 3.4), squeeze=False)
    for axes, (condition, methods) in zip(columns[0], report["curves"].items(), strict=True):
        for method, row in methods.items():
            (line,) = axes.plot(row["step"], [100 * v for v in row["relation"]], marker="o", markersize=3, label=method)
            if "leakage_open" in row:
                axes.plot(row["step"], [100 * v for v in row["leakage_open"]], linestyle=":", color=line.get_color())
        word = report["summary"][condition]["best word"]["relation"]["mean"]
        axes.axhline(100 * word, linestyle="--", color="grey", label="the best word")
        axes.set(xlabel="updates of R", title=condition, ylim=(0, 102), xscale="log")
    columns[0][0].set_ylabel("relation (dotted: open leakage), %")
    columns[0][0].legend(fontsize=8)
    figure.tight_layout()
    return figure


def relation_and_leakage(report: dict[str, Any]) -> Figure:
    """Every method of the confounded condition by leakage and relation, with intervals."""
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for method, row in report["summary"]["confounded"].items():
        x, y = row["leakage_open"], row["relation"]
        spread = [[100 * (v["mean"] - v["low"])] for v in (x, y)], [[100 * (v["high"] - v["mean"])] for v in (x, y)]
        axes.errorbar(
            100 * x["mean"],
            100 * y["mean"],
            xerr=[spread[0][0], spread[1][0]],
            yerr=[spread[0][1], spread[1][1]],
            marker="o",
            label=method,
        )
    axes.set(xlabel="a shared colour is seen where none is named, %", ylabel="relation accuracy, %")
    axes.legend(fontsize=7)
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


def relation_sheet(runner: Runner, scenes: Sequence[world.Scene], vectors: Vectors, columns: int = 8) -> np.ndarray:
    """Exemplars above the same number of unseen pairs drawn with R: uint8 [2 x 64, columns x 64, 3]."""
    pairs = unseen_pairs(columns, scenes)
    drawn = runner.draw("<R>", pairs, vectors)
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
    over_steps(report).savefig(folder / "benchmark-steps.png", dpi=110)
    relation_and_leakage(report).savefig(folder / "benchmark-leakage.png", dpi=110)
    training_curves(histories).savefig(folder / "benchmark-training.png", dpi=110)
    vectors = {relation: found["clip_l"] for relation, (_, found) in learned.items()}
    among_words(runner, vectors).savefig(folder / "benchmark-words.png", dpi=110)
    sheets = [relation_sheet(runner, *found) for found in learned.values()]
    gap = np.full((8, sheets[0].shape[1], 3), 255, np.uint8)
    stacked = np.concatenate([part for sheet in sheets for part in (sheet, gap)][:-1])
    picture = Image.fromarray(stacked)
    picture.resize([2 * side for side in picture.size], Image.Resampling.NEAREST).save(
        folder / "benchmark-relations.png", optimize=True
    )
    plt.close("all")
