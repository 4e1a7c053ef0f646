"""Means, bootstrap intervals and differences over the cells of `make benchmark`."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from lab.bench.methods import CONDITIONS, METHODS, WORDS
from lab.bench.run import MEASURES
from reversion_core.report.intervals import Interval, interval

FEWEST = 8  # trainings whose order says something
Records = dict[str, dict[str, Any]]  # a `methods.Cell` as JSON -> what was measured: a 0/1 a picture by measure


def of_cells(records: Records, condition: str, method: str) -> dict[tuple[str, int], dict[str, Any]]:
    """(relation, seed) -> record of a method in a condition."""
    parsed = ((json.loads(key), record) for key, record in records.items())
    return {(relation, seed): r for (c, m, relation, seed), r in parsed if (c, m) == (condition, method)}


def summary(records: Records) -> dict[str, dict[str, dict[str, Any]]]:
    """Condition -> method -> measure -> interval, and the numbers of trainings and pictures."""
    result = {}
    for condition in CONDITIONS:
        for method in (*WORDS, *METHODS):
            found = list(of_cells(records, condition, method).values())
            if found:
                measured = [name for name in MEASURES if name in found[0]]
                result.setdefault(condition, {})[method] = {
                    **{name: interval([r[name] for r in found]) for name in measured},
                    "trainings": len(found),
                    "pictures": sum(len(r["relation"]) for r in found),
                }
    return result


def differences(records: Records, base: str = "Textual Inversion") -> dict[str, dict[str, dict[str, Interval]]]:
    """Condition -> method -> measure -> interval of the difference to the base method.

    Both learned from the same exemplars with the same seed and drew the same pairs from the same noise.
    """
    result = {}
    for condition in CONDITIONS:
        of_base = of_cells(records, condition, base)
        for method in METHODS:
            found = of_cells(records, condition, method)
            both = [(found[key], of_base[key]) for key in found.keys() & of_base.keys()]
            if both and method != base:
                result.setdefault(condition, {})[method] = {
                    name: interval([np.subtract(a[name], b[name]) for a, b in both])
                    for name in MEASURES
                    if name in both[0][0]
                }
    return result


def curves(records: Records) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Condition -> method -> "step" and each measure -> its mean over the trainings by step."""
    result = {}
    for condition in CONDITIONS:
        for method in METHODS:
            found = [r["curve"] for r in of_cells(records, condition, method).values() if "curve" in r]
            if found:
                steps = [point["step"] for point in found[0]]
                result.setdefault(condition, {})[method] = {"step": steps} | {
                    name: np.mean([[point[name] for point in curve] for curve in found], 0).tolist()
                    for name in MEASURES
                    if name in found[0][0]
                }
    return result


def verdicts(records: Records) -> dict[str, dict[str, Any]]:
    """How well what a training says of itself ranks what was then measured: by condition and over "all".

    "trainings", and number of the verdict -> measure -> `rank_correlation` of the two; without what is always the same.
    """
    parsed = [(json.loads(key)[0], record) for key, record in records.items() if record.get("verdict")]
    result = {}
    for condition in ("all", *CONDITIONS):
        found = [record for name, record in parsed if condition in ("all", name)]
        if len(found) >= FEWEST:
            result[condition] = {"trainings": len(found)}
            for number in ("start", "best", "outside"):
                said = [record["verdict"][number] for record in found]
                shares = {n: [np.mean(r[n]) for r in found] for n in MEASURES if all(n in r for r in found)}
                result[condition][number] = {
                    name: rank_correlation(said, values)
                    for name, values in shares.items()
                    if len(set(said)) > 1 < len(set(values))
                }
    return result


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation of two lists of numbers, ties averaged."""
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)
