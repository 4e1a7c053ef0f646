"""Pictures of a benchmark run for docs/: accuracy over steps, training curves, relation sheets, R among the words."""

import matplotlib
import numpy as np
import torch
from PIL import Image

from lab.miniature import world
from lab.miniature.exemplars import unseen_pairs
from reversion_core.method.words import PREPOSITIONS
from reversion_core.report import inspection

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


def accuracy_over_steps(report):
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


def training_curves(histories):
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


def among_words(bench, learned):
    """PCA of the learned vectors among prepositions, entity words and "and"; learned: relation -> vectors [k, 768]."""
    groups = {
        "prepositions": PREPOSITIONS,
        "entities": (*world.COLOURS, *world.SHAPES),
        "initial word": ("and",),
    }
    rows = {name: bench.studio.host.word_rows(bench.studio.clip, "clip_l", words) for name, words in groups.items()}
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


def relation_sheet(bench, relation, scenes, vectors, columns=8):
    """Exemplars above the same number of unseen pairs drawn with R: uint8 [2 x 64, columns x 64, 3]."""
    pairs = unseen_pairs(columns, scenes)
    drawn = bench.measure(relation, "<R>", pairs, vectors, scenes)[1]
    shown = [world.render(scene) for scene in scenes[:columns]]
    return np.concatenate([np.concatenate(row, axis=1) for row in (shown, drawn)])


def write(bench, report, learned, histories, folder):
    """Write every picture into a folder; learned: relation -> (scenes, vectors by encoder)."""
    accuracy_over_steps(report).savefig(folder / "benchmark-steps.png", dpi=110)
    training_curves(histories).savefig(folder / "benchmark-training.png", dpi=110)
    vectors = {relation: found["clip_l"] for relation, (_, found) in learned.items()}
    among_words(bench, vectors).savefig(folder / "benchmark-words.png", dpi=110)
    sheets = [relation_sheet(bench, relation, *found) for relation, found in learned.items()]
    gap = np.full((8, sheets[0].shape[1], 3), 255, np.uint8)
    stacked = np.concatenate([part for sheet in sheets for part in (sheet, gap)][:-1])
    picture = Image.fromarray(stacked)
    picture.resize([2 * side for side in picture.size], Image.Resampling.NEAREST).save(
        folder / "benchmark-relations.png", optimize=True
    )
    plt.close("all")
