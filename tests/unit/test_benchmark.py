"""The arithmetic of the benchmark's report."""

import json

import numpy as np
import pytest

from lab.bench import benchmark, methods, run, statistics, tables


def record(relation, entity=1, leakage=0, **more):
    return {"relation": [relation] * 10, "entity": [entity] * 10, "leakage": [leakage] * 10, **more}


def key(*cell):
    return json.dumps(cell)


def test_intervals_are_those_of_the_mean():
    samples = [np.arange(100) < 30, np.arange(100) < 50]
    found = statistics.interval(samples)
    assert found["mean"] == pytest.approx(0.4)
    # Of the mean of two independent hundreds: 1.96 standard errors.
    half = 1.96 * ((0.3 * 0.7 + 0.5 * 0.5) / 100) ** 0.5 / 2
    assert found["low"] == pytest.approx(0.4 - half, abs=0.01) and found["high"] == pytest.approx(0.4 + half, abs=0.01)
    assert statistics.interval([[1, 1], [1]]) == {"mean": 1.0, "low": 1.0, "high": 1.0}


def test_every_asked_cell_is_there_once():
    cells = [key(*cell) for cell in methods.cells()]
    assert len(cells) == len(set(cells))
    conditions = [condition for section, condition in methods.cells() if section == "table"]
    assert {condition.relation for condition in conditions} == set(methods.RELATIONS) and len(methods.RELATIONS) >= 6
    for method in methods.METHODS:
        of_method = [condition for condition in conditions if condition.method == method]
        assert {condition.variant for condition in of_method} == set(methods.CAPTIONS)
        assert {condition.seed for condition in of_method} == set(methods.SEEDS)
    assert not any("swapped" in condition.method and condition.relation == "beside" for condition in conditions)
    assert {condition.variant for section, condition in methods.cells() if section == "exemplars"} == set(
        methods.EXEMPLAR_COUNTS
    )


def test_summary_keeps_methods_and_captions_apart():
    done = {
        key("table", ["full", "its own word", "on", 0]): record(1),
        key("table", ["full", "paper", "on", 0]): record(1),
        key("table", ["full", "paper", "above", 1]): record(0),
        key("table", ["full", "paper + 2 vectors", "on", 0]): record(0, entity=0),
        key("table", ["coarse", "paper", "on", 0]): record(0, leakage=1),
        key("stochastic", ["full", "paper", "on", 0]): record(0.2),
        key("exemplars", [8, "balanced", "on", 0]): record(1),
    }
    found = statistics.summary(done)
    assert found["full"]["paper"]["relation"]["mean"] == 0.5 and found["full"]["paper"]["pictures"] == 20
    assert found["full"]["paper + 2 vectors"]["entity"]["mean"] == 0
    assert found["coarse"]["paper"]["leakage"]["mean"] == 1 and found["coarse"]["paper"]["pictures"] == 10
    assert found["coarse"]["its own word"] == found["full"]["its own word"]
    found = statistics.summary(done, "stochastic", ("full",))
    assert list(found) == ["full"] and list(found["full"]) == ["paper"]
    assert found["full"]["paper"]["relation"]["mean"] == pytest.approx(0.2)
    assert statistics.by_exemplar_count(done)["8"]["relation"]["mean"] == 1


def test_the_step_from_which_the_accuracy_stays():
    def curve(*values):
        return [{"step": 10 * (i + 1), "relation": value} for i, value in enumerate(values)]

    done = {
        key("table", ["full", "paper", "on", 0]): record(1, curve=curve(0.0, 0.97, 0.5, 0.96, 1.0)),
        key("table", ["full", "paper", "above", 0]): record(1, curve=curve(0.2, 0.99, 0.5, 0.98, 1.0)),
    }
    assert statistics.steps_to_final(done)["paper"]["reached_at"] == 40


def test_differences_are_taken_picture_by_picture():
    shared = {"entity": [1, 0] * 5, "leakage": [0] * 10}
    done = {
        key("table", ["full", "its own word", "on", 0]): record(1),
        key("table", ["full", "Textual Inversion", "on", 0]): {"relation": [0] * 10, **shared},
        key("table", ["full", "paper", "on", 0]): {"relation": [1] * 10, **shared},
        key("table", ["full", "paper", "above", 0]): record(0),
        key("table", ["coarse", "paper", "on", 0]): record(0),
        key("stochastic", ["full", "Textual Inversion", "on", 0]): record(1),
        key("stochastic", ["full", "paper", "on", 0]): record(1),
    }
    exactly = {"full": {"paper": {"relation": 1.0, "entity": 0.0, "leakage": 0.0}}}
    for bound in ("mean", "low", "high"):
        found = {
            captions: {method: {name: row[name][bound] for name in row} for method, row in methods.items()}
            for captions, methods in statistics.differences(done).items()
        }
        assert found == exactly
    found = statistics.differences(done, "stochastic")
    assert found["full"]["paper"]["relation"]["mean"] == 0


def test_the_published_table_is_that_of_the_published_report():
    report = json.loads(benchmark.PUBLISHED.read_text())
    assert benchmark.PUBLISHED.with_suffix(".md").read_text() == tables.of_benchmark(report)
    for section in ("stochastic", "deciding"):
        assert report[section]["summary"] == statistics.summary(report["cells"], section, ("full",))


def test_the_deciding_section_has_pairs_of_its_own():
    _, scenes = run.exemplars("above")
    runner, asked = run.Runner.__new__(run.Runner), []
    runner.pairs = 25
    runner.measure = lambda relation, word, pairs, *rest, **drawing: asked.append((pairs, rest[2], drawing)) or [None]
    for section in ("stochastic", "deciding"):
        runner.score(section, "above", "above", None, scenes)
    (few, first_seed, drawing), (many, other_seed, same) = asked
    assert len(few) == 25 and len(many) == 100 and drawing == same == methods.STOCHASTIC_SAMPLING
    assert not set(map(frozenset, few)) & set(map(frozenset, many)) and first_seed + 25 <= other_seed
