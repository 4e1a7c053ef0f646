"""A run that was stopped goes on as if it never had been, and nothing learned is lost."""

import logging
import os

import pytest
import torch
from training import Stop, learn, stop_at

CONSTANT = {"schedule": "constant"}


class Seen(list):
    """The steps at which a run reported."""

    def __call__(self, learner, previews):
        self.append(learner and learner.step)


def vectors(learned):
    return learned.relation.vectors["clip_l"]


def test_a_stopped_run_goes_on_bit_for_bit(core, loaded, drawn, tmp_path):
    unbroken = learn(core, loaded, drawn, tmp_path / "unbroken", steps=5)
    seen = Seen()
    with pytest.raises(Stop):
        learn(core, loaded, drawn, tmp_path, stop_at(3), steps=5)
    resumed = learn(core, loaded, drawn, tmp_path, seen, steps=5)
    assert seen == [None, 4, 5]
    assert torch.equal(vectors(resumed), vectors(unbroken)) and resumed.history == unbroken.history


def test_a_stopped_run_keeps_its_previews(core, loaded, drawn, tmp_path):
    keep = {"previews": 2, "prompt": "red circle <R> blue square"}
    unbroken = learn(core, loaded, drawn, tmp_path / "unbroken", keep=keep, steps=5)
    with pytest.raises(Stop):
        learn(core, loaded, drawn, tmp_path, stop_at(3), keep, steps=5)
    resumed = learn(core, loaded, drawn, tmp_path, keep=keep, steps=5)
    assert len(unbroken.previews) == 3
    assert all((a == b).all() for a, b in zip(resumed.previews, unbroken.previews, strict=True))


def test_without_resume_it_starts_anew(core, loaded, drawn, tmp_path):
    seen = Seen()
    with pytest.raises(Stop):
        learn(core, loaded, drawn, tmp_path, stop_at(2), steps=3)
    learn(
        core,
        loaded,
        drawn,
        tmp_path,
        seen,
        {"resume": False},
        steps=3,
    )
    assert seen == [None, 1, 2, 3]


def test_more_steps_go_on_from_a_finished_run_and_leave_it_as_it_is(core, loaded, drawn, tmp_path):
    short = learn(core, loaded, drawn, tmp_path, steps=2, **CONSTANT)
    seen = Seen()
    longer = learn(core, loaded, drawn, tmp_path, seen, steps=4, **CONSTANT)
    assert seen == [None, 3, 4]
    unbroken = learn(core, loaded, drawn, tmp_path / "unbroken", steps=4, **CONSTANT)
    assert torch.equal(vectors(longer), vectors(unbroken))
    again = learn(core, loaded, drawn, tmp_path, steps=2, **CONSTANT)
    assert torch.equal(vectors(again), vectors(short))


def test_changed_inputs_start_anew_and_say_why(core, loaded, drawn, tmp_path, caplog):
    with pytest.raises(Stop):
        learn(core, loaded, drawn, tmp_path, stop_at(2), steps=3)
    seen = Seen()
    with caplog.at_level(logging.INFO):
        learn(core, loaded, drawn, tmp_path, seen, steps=3, seed=5)
    assert seen == [None, 1, 2, 3]
    assert "starts anew; since the latest run these changed: seed (0 -> 5)" in caplog.text


def test_it_is_saved_every_few_steps(core, loaded, drawn, tmp_path):
    saved = []

    def look(learner, previews):
        files = list((tmp_path / "kept").glob("*.safetensors"))
        saved.append(files and core.relation.load(files[0]).metadata["reversion.steps_done"])

    learn(core, loaded, drawn, tmp_path, look, {"every": 2}, steps=5)
    assert saved == [[], [], "2", "2", "4", "4"]


def test_a_damaged_state_is_left_alone(core, loaded, drawn, tmp_path, caplog):
    with pytest.raises(Stop):
        learn(core, loaded, drawn, tmp_path, stop_at(2), steps=3)
    (state,) = (tmp_path / "logs").glob("*.state.safetensors")
    state.write_bytes(state.read_bytes()[:100])
    seen = Seen()
    learn(core, loaded, drawn, tmp_path, seen, steps=3)
    assert seen == [None, 1, 2, 3] and "cannot be read" in caplog.text


@pytest.mark.parametrize("file", ["kept/*.safetensors", "logs/*.csv"])
def test_a_damaged_result_does_not_stand_in_the_way(core, loaded, drawn, tmp_path, file):
    first = learn(core, loaded, drawn, tmp_path)
    (damaged,) = tmp_path.glob(file)
    damaged.write_bytes(damaged.read_bytes()[:60])
    again = learn(core, loaded, drawn, tmp_path)
    assert torch.equal(vectors(again), vectors(first)) and again.history == first.history
    assert core.relation.load(next(tmp_path.glob("kept/*"))).metadata["reversion.steps_done"] == "2"


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(core, loaded, drawn, tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    seen = Seen()
    with pytest.raises(core.errors.ReVersionError, match="autosave.*No space left on device"):
        learn(core, loaded, drawn, tmp_path, seen)
    assert seen == [None]


def test_a_disk_that_fills_up_on_the_way_costs_nothing_that_was_learned(
    core, loaded, drawn, tmp_path, monkeypatch, caplog
):
    from pathlib import Path

    write, plain = Path.write_bytes, learn(core, loaded, drawn, tmp_path / "plain")

    def full(self, data):
        if ".probe" not in self.name:
            raise OSError(28, os.strerror(28))
        return write(self, data)

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    assert torch.equal(vectors(learn(core, loaded, drawn, tmp_path)), vectors(plain))
    assert "could not save the relation so far" in caplog.text
