"""Pictures of a benchmark run for docs/: accuracy over updates, what each method draws, relation sheets."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from lab.bench.methods import HARD
from lab.bench.run import Runner, Vectors
from lab.miniature import world
from lab.miniature.exemplars import unseen_pairs

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
    max(columns[0], key=lambda axes: len(axes.get_legend_handles_labels()[0])).legend(fontsize=8, loc="lower left")
    figure.tight_layout()
    return figure


def _with_ends(found: Sequence[dict[str, float]]) -> tuple[np.ndarray, np.ndarray]:
    """(means [n], how far their intervals reach below and above [2, n]) of intervals, all in %."""
    low, mean, high = (100 * np.array([interval[end] for interval in found]) for end in ("low", "mean", "high"))
    return mean, np.stack([mean - low, high - mean])


def relation_and_leakage(report: dict[str, Any]) -> Figure:
    """Every method of the confounded condition by leakage and relation, with intervals."""
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    axes.set_prop_cycle(color=plt.get_cmap("tab20").colors)
    for method, row in report["summary"]["confounded"].items():
        (x, across), (y, up) = (_with_ends([row[name]]) for name in ("leakage_open", "relation"))
        axes.errorbar(x, y, xerr=across, yerr=up, marker="o", label=method)
    axes.set(xlabel="a shared colour is seen where none is named, %", ylabel="relation accuracy, %")
    axes.legend(fontsize=7)
    return figure


def bars(report: dict[str, Any], measures: dict[str, str]) -> Figure:
    """Means of some measures with their intervals, of every method of each hard condition; measures: name -> title."""
    conditions = [name for name in HARD if name in report["summary"]]
    figure, columns = plt.subplots(
        1, len(conditions), figsize=(10.5, 3.6), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, condition in zip(columns[0], conditions, strict=True):
        rows = report["summary"][condition]
        shown = [name for name in measures if name in next(iter(rows.values()))]
        places, width = np.arange(len(rows)), 0.8 / len(shown)
        for number, name in enumerate(shown):
            means, ends = _with_ends([row[name] for row in rows.values()])
            at = places + (number - (len(shown) - 1) / 2) * width
            axes.bar(at, means, width, yerr=ends, capsize=2, label=measures[name])
        axes.set_xticks(places, list(rows), rotation=35, ha="right", fontsize=8)
        axes.set(title=condition, ylim=(0, 102))
    columns[0][0].set_ylabel("pictures, %")
    figure.legend(*columns[0][0].get_legend_handles_labels(), fontsize=8, loc="outside upper left", ncols=len(measures))
    return figure


def relation_sheet(runner: Runner, scenes: Sequence[world.Scene], vectors: Vectors, columns: int = 8) -> np.ndarray:
    """Exemplars above the same number of unseen pairs drawn with R: uint8 [2 x 64, columns x 64, 3]."""
    pairs = unseen_pairs(columns, scenes)
    drawn = runner.draw("<R>", pairs, vectors)
    exemplars = [world.render(scene) for scene in scenes[:columns]]
    return np.concatenate([np.concatenate(row, axis=1) for row in (exemplars, drawn)])


def write_counts(report: dict[str, Any], folder: Path) -> None:
    """Write the pictures of a report's numbers into a folder."""
    over_steps(report).savefig(folder / "benchmark-steps.png", dpi=110)
    relation_and_leakage(report).savefig(folder / "benchmark-leakage.png", dpi=110)
    bars(report, {"entity": "both things are there"}).savefig(folder / "benchmark-entities.png", dpi=110)
    parts = {"relation": "relation", "leakage_open": "leaks, nothing named"}
    bars(report, parts).savefig(folder / "benchmark-parts.png", dpi=110)
    plt.close("all")


def write_sheet(runner: Runner, learned: Iterable[tuple[Sequence[world.Scene], Vectors]], folder: Path) -> None:
    """Write a `relation_sheet` of each learned relation, (scenes, vectors), one below another, into a folder."""
    sheets = [relation_sheet(runner, *found) for found in learned]
    gap = np.full((8, sheets[0].shape[1], 3), 255, np.uint8)
    stacked = np.concatenate([part for sheet in sheets for part in (sheet, gap)][:-1])
    picture = Image.fromarray(stacked)
    picture.resize([2 * side for side in picture.size], Image.Resampling.NEAREST).save(
        folder / "benchmark-relations.png", optimize=True
    )
