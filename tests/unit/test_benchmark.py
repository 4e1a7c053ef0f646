"""The design and the arithmetic of the benchmark's report."""

import dataclasses
import json

import numpy as np
import pytest

from lab.bench import intervals, markdown, methods, tables
from lab.miniature import judge, world
from lab.miniature.exemplars import random_look, unseen_pairs, write_exemplars


def record(relation, entity=1, leakage=0, **more):
    return {"relation": [relation] * 10, "entity": [entity] * 10, "leakage": [leakage] * 10, **more}


ABOUT = {
    "command": "c",
    "date": "d",
    "commit": "e",
    "hardware": "h",
    "host": "1",
    "weights": "w",
    "cells": "1 of 2",
    "exemplars": 8,
    "pairs": 10,
    "drawing": {"steps": 10, "cfg": 2.5},
}


def key(*cell):
    return json.dumps(cell)


def test_an_interval_redraws_trainings_and_then_pictures():
    rng = np.random.default_rng(0)
    same = [rng.random(400) < 0.5 for _ in range(10)]
    different = [rng.random(400) < share for share in [0.1] * 5 + [0.9] * 5]
    of_same, of_different = intervals.interval(same), intervals.interval(different)
    assert of_same["mean"] == pytest.approx(0.5, abs=0.02) == of_different["mean"]
    # One of trainings alone: 1.96 x 0.4 / sqrt(10); one of pictures alone would be ten times narrower.
    assert of_different["high"] - of_different["low"] == pytest.approx(2 * 1.96 * 0.4 / 10**0.5, rel=0.1)
    assert of_same["high"] - of_same["low"] < 0.06
    assert intervals.interval([[1, 1], [1, 1]]) == {"mean": 1.0, "low": 1.0, "high": 1.0}


def test_every_asked_cell_is_there_once_and_the_hard_conditions_have_ten_trainings():
    cells = list(methods.cells())
    assert len(cells) == len(set(cells))
    for condition in methods.HARD:
        relations = {cell.relation for cell in cells if cell.condition == condition}
        assert len(relations) >= 3
        for method in ("Textual Inversion", "balanced", "pull", "best word"):
            assert sum(cell.condition == condition and cell.method == method for cell in cells) >= 10
    assert not any("swap" in cell.method and cell.relation == "beside" for cell in cells)
    assert {cell.condition for cell in cells} == set(methods.CONDITIONS)
    quick = list(methods.cells(quick=True))
    assert set(quick) < set(cells) and len(quick) < 25


def test_summary_and_differences_keep_methods_and_conditions_apart():
    done = {
        key("full", "best word", "on", 0): record(1),
        key("full", "balanced", "on", 0): record(1),
        key("full", "balanced", "above", 1): record(0),
        key("full", "Textual Inversion", "on", 0): record(0, leakage=1),
        key("confounded", "balanced", "on", 0): record(0, leakage_open=[1] * 10),
    }
    found = intervals.summary(done)
    assert found["full"]["balanced"]["relation"]["mean"] == 0.5
    assert (found["full"]["balanced"]["trainings"], found["full"]["balanced"]["pictures"]) == (2, 20)
    assert found["confounded"]["balanced"]["leakage_open"]["mean"] == 1 and "leakage_open" not in found["full"]
    beside = intervals.differences(done)["full"]["balanced"]
    assert beside["relation"]["mean"] == 1 and beside["leakage"]["mean"] == -1


def test_curves_are_means_over_trainings():
    points = (
        [{"step": 5, "relation": 0.2}, {"step": 10, "relation": 0.4}],
        [
            {"step": 5, "relation": 0.4},
            {"step": 10, "relation": 1.0},
        ],
    )
    done = {
        key("full", "balanced", relation, 0): record(1, curve=curve)
        for relation, curve in zip(("on", "above"), points, strict=True)
    }
    found = intervals.curves(done)["full"]["balanced"]
    assert found["step"] == [5, 10] and found["relation"] == pytest.approx([0.3, 0.7])


def test_the_report_has_a_row_a_method_and_says_what_a_condition_is():
    done = {key("confounded", "balanced", "on", 0): record(1, leakage_open=[0] * 10, background=[0] * 10)}
    report = {"about": ABOUT, "summary": intervals.summary(done), "differences": {}, "curves": {}, "verdicts": {}}
    text = tables.of_benchmark(report)
    assert "| balanced | 100% (100 to 100) | 100% (100 to 100) | 0% (0 to 0) |" in text
    assert "all exemplars share two colours and a background" in text


def test_confounded_exemplars_share_their_look_and_test_pairs_do_not_have_it(tmp_path):
    look = random_look(np.random.default_rng(0))
    scenes = write_exemplars(tmp_path / "x", "above", 8, 0, coarse=True, look=look)
    for scene in scenes:
        seen = judge.look(world.render(scene))
        assert {entity.colour for entity in seen.entities} == set(look.colours)
        assert seen.background == look.background != "white"
    captions = json.loads((tmp_path / "x" / "text.json").read_text())
    words = {word for of_one in captions.values() for caption in of_one for word in caption.split()}
    assert words <= {*world.SHAPES, "{}"}
    pairs = unseen_pairs(25, scenes, without=look.colours)
    assert not {entity.colour for pair in pairs for entity in pair} & set(look.colours)


def test_rank_correlation_is_spearman_s():
    assert intervals.rank_correlation([1, 2, 3, 4], [10, 20, 30, 100]) == pytest.approx(1)
    assert intervals.rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)


def test_the_verdict_is_ranked_against_what_was_measured():
    done = {}
    for seed in range(intervals.FEWEST):
        said = {"start": -seed, "best": (seed - 4) ** 2, "outside": 0.0}
        relation = [1] * (seed + 1) + [0] * (9 - seed)
        done[key("full", "balanced", "on", seed)] = record(1, verdict=said) | {"relation": relation}
    done[key("coarse", "balanced", "on", 0)] = done[key("full", "balanced", "on", 0)]
    found = intervals.verdicts(done)
    assert found.keys() == {"all", "full"} and found["full"]["trainings"] == intervals.FEWEST
    assert found["full"]["start"] == {"relation": pytest.approx(-1)} and found["full"]["outside"] == {}
    assert abs(found["full"]["best"]["relation"]) < 0.7
    report = {"about": ABOUT, "summary": {}, "differences": {}, "curves": {}, "verdicts": found}
    assert "| full | 8 | -1.00 |" in tables.of_benchmark(report)


def test_one_picture_is_confounded_with_a_single_exemplar():
    one, confounded = methods.CONDITIONS["one picture"], methods.CONDITIONS["confounded"]
    assert dataclasses.replace(one, exemplars=methods.EXEMPLARS) == confounded and one.exemplars == 1
    compared = {cell.method for cell in methods.cells() if cell.condition == "one picture"}
    assert {"best word", "Textual Inversion", "balanced", "one picture", "one picture, no views"} <= compared
    plain = methods.METHODS["one picture, no views"].train_settings(0)
    assert dataclasses.replace(plain, augmentation="views") == methods.METHODS["one picture"].train_settings(0)


def test_a_placeholder_in_a_table_is_no_html_tag():
    table = markdown.markdown_table(["a"], [["<R>, then <S>", "`<R>` 1"]])
    assert table.splitlines()[-1] == "| `<R>`, then `<S>` | `<R>` 1 |"
