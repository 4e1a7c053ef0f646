"""Means, bootstrap intervals and differences over the cells of `make benchmark`."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from lab.bench.methods import CONDITIONS, METHODS, WORDS
from lab.bench.run import MEASURES
from reversion_core.report.intervals import Interval, interval
from reversion_core.report.verdict import Verdict

FEWEST = 8  # trainings whose order says something
ADVICES = ("carries their look", "no word says this", "worse than at its start", "hardly better", "fine")
_ROUNDING = 1e-3  # of a share of the error; with the prior span it is 0
Records = dict[str, dict[str, Any]]  # a `methods.Cell` as JSON -> what was measured: a 0/1 a picture by measure


def of_cells(records: Records, condition: str, method: str) -> dict[tuple[str, int], dict[str, Any]]:
    """(relation, seed) -> record of a method in a condition."""
    parsed = sorted(((json.loads(key), record) for key, record in records.items()), key=lambda found: found[0])
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


def by_relation(records: Records) -> dict[str, dict[str, dict[str, float]]]:
    """Condition -> method -> relation -> its accuracy, the mean over the trainings."""
    result = {}
    for condition, given in CONDITIONS.items():
        for method in (*WORDS, *METHODS):
            found = of_cells(records, condition, method)
            accuracies = {
                relation: float(np.mean([r["relation"] for (of, _), r in found.items() if of == relation]))
                for relation in given.relations
                if any(of == relation for of, _ in found)
            }
            if accuracies:
                result.setdefault(condition, {})[method] = accuracies
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
            both = [(record, of_base[key]) for key, record in found.items() if key in of_base]
            if both and method != base:
                result.setdefault(condition, {})[method] = {
                    name: interval([np.subtract(a[name], b[name]) for a, b in both])
                    for name in MEASURES
                    if name in both[0][0]
                }
    return result


def curves(records: Records) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Condition -> method -> "step", "trainings", and each measure -> its mean over the trainings by step."""
    result = {}
    for condition in CONDITIONS:
        for method in METHODS:
            found = [r["curve"] for r in of_cells(records, condition, method).values() if "curve" in r]
            if found:
                steps = [point["step"] for point in found[0]]
                result.setdefault(condition, {})[method] = {"step": steps, "trainings": len(found)} | {
                    name: np.mean([[point[name] for point in curve] for curve in found], 0).tolist()
                    for name in MEASURES
                    if name in found[0][0]
                }
    return result


def verdicts(records: Records) -> dict[str, dict[str, dict[str, Any]]]:
    """How well the share of its gain that a training has outside of the basis ranks what was then measured.

    Condition -> method or "all" -> "trainings" and measure -> `rank_correlation`. Those of one method tell whether the
    number says more than which method it was; without what is always the same.
    """
    result = {}
    for condition in CONDITIONS:
        of_methods = {m: list(of_cells(records, condition, m).values()) for m in METHODS}
        of_methods["all"] = [record for found in of_methods.values() for record in found]
        for method, found in of_methods.items():
            said = [_verdict(record).share_outside for record in found if record.get("verdict")]
            if len(said) < max(FEWEST, len(found)) or max(said) - min(said) < _ROUNDING:
                continue
            shares = {n: [np.mean(r[n]) for r in found] for n in MEASURES if all(n in r for r in found)}
            result.setdefault(condition, {})[method] = {"trainings": len(found)} | {
                name: rank_correlation(said, values) for name, values in shares.items() if len(set(values)) > 1
            }
    return result


def advices(records: Records) -> dict[str, dict[str, dict[str, int]]]:
    """Condition -> method -> "trainings", and to how many of them the verdict of today gives each of `ADVICES`."""
    result = {}
    for condition in CONDITIONS:
        for method in METHODS:
            found = of_cells(records, condition, method).values()
            given = [_verdict(record).advice for record in found if record.get("verdict")]
            if given:
                counts = {words: sum(words in advice for advice in given) for words in ADVICES}
                result.setdefault(condition, {})[method] = {"trainings": len(given)} | counts
    return result


def _verdict(record: dict[str, Any]) -> Verdict:
    """The verdict of a record; those of before 2026-12 have no noise, and count as free of it."""
    free = {"entities": {}, "noise": dict.fromkeys(("start", "nearest", "best", "outside"), 0.0)}
    names = {field.name for field in dataclasses.fields(Verdict)}
    return Verdict(**free | {name: value for name, value in record["verdict"].items() if name in names})


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation of two lists of numbers, ties averaged."""
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)
