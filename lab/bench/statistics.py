"""Means, bootstrap intervals and differences over the cells of `make benchmark`."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lab.bench.methods import CAPTIONS, CURVE_METHODS, METHODS, WORDS
from lab.miniature.judge import MEASURES

Records = dict[str, dict[str, Any]]  # a `methods.Cell` as JSON -> what was measured: a 0/1 a picture by measure
Interval = dict[str, float]  # "mean", "low", "high"


def interval(samples: Iterable[Sequence[float]], draws: int = 2000, seed: int = 0) -> Interval:
    """Mean and bootstrap 95% interval; samples: a number a picture, by cell. Pictures are redrawn within each cell."""
    rng = np.random.default_rng(seed)
    samples = [np.asarray(s) for s in samples]
    totals = sum(s[rng.integers(0, len(s), (draws, len(s)))].sum(1) for s in samples)
    means = totals / sum(map(len, samples))
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": float(np.concatenate(samples).mean()), "low": float(low), "high": float(high)}


def means(record: dict[str, Any]) -> dict[str, float]:
    """Measure -> its mean over the pictures of one record."""
    return {name: float(np.mean(record[name])) for name in MEASURES}


def summary(records: Records, section: str = "table", captions: Sequence[str] = CAPTIONS) -> dict[str, dict[str, dict]]:
    """Captions -> method -> measure -> interval; the plain words, which need no captions, are listed under each."""
    result = {}
    for kind in captions:
        for method in (*WORDS, *METHODS):
            prefix = json.dumps(["full" if method in WORDS else kind, method])[1:-1]
            found = [r for key, r in records.items() if key.startswith(f'["{section}", [{prefix},')]
            if found:
                result.setdefault(kind, {})[method] = {
                    name: interval([r[name] for r in found]) for name in MEASURES
                } | {"pictures": sum(len(r["relation"]) for r in found)}
    return result


def differences(
    records: Records, section: str = "table", base: str = "Textual Inversion"
) -> dict[str, dict[str, dict[str, Interval]]]:
    """Captions -> method -> measure -> interval of the difference to the base method, picture by picture.

    Both learned from the same exemplars with the same seed and drew the same pairs from the same noise.
    """
    pairs = {}
    for key, record in records.items():
        own_section, (captions, method, *rest) = json.loads(key)
        base_record = records.get(json.dumps([own_section, [captions, base, *rest]]))
        if own_section == section and method in METHODS and method != base and base_record:
            pairs.setdefault(captions, {}).setdefault(method, []).append((record, base_record))
    return {
        captions: {
            method: {name: interval([np.subtract(a[name], b[name]) for a, b in of_method]) for name in MEASURES}
            for method, of_method in methods.items()
        }
        for captions, methods in pairs.items()
    }


def steps_to_final(records: Records, share: float = 0.95) -> dict[str, dict[str, Any]]:
    """Method -> mean relation accuracy by step, and the first step from which it stays at `share` of the last one's."""
    result = {}
    for method in CURVE_METHODS:
        curves = [r["curve"] for key, r in records.items() if "curve" in r and json.loads(key)[1][1] == method]
        if curves:
            steps = [point["step"] for point in curves[0]]
            accuracy = np.mean([[point["relation"] for point in curve] for curve in curves], 0)
            below = [i for i, mean in enumerate(accuracy) if mean < share * accuracy[-1]]
            result[method] = {
                "steps": dict(zip(map(str, steps), map(float, accuracy), strict=True)),
                "reached_at": steps[below[-1] + 1 if below else 0],
            }
    return result


def by_exemplar_count(records: Records) -> dict[str, dict[str, Interval]]:
    """Number of exemplars -> measure -> interval."""
    found = {}
    for key, record in records.items():
        section, (count, *_) = json.loads(key)
        if section == "exemplars":
            found.setdefault(str(count), []).append(record)
    return {
        count: {name: interval([r[name] for r in of_count]) for name in MEASURES} for count, of_count in found.items()
    }
