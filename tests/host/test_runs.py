"""A run that was stopped goes on as if it never had been, and nothing learned is lost."""

import dataclasses
import json
import logging
import os
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from training import Stop, learn, stop_at


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
    keep = {"preview_every": 2, "prompt": "red circle <R> blue square"}
    unbroken = learn(core, loaded, drawn, tmp_path / "unbroken", keep=keep, steps=5)
    with pytest.raises(Stop):
        learn(core, loaded, drawn, tmp_path, stop_at(3), keep, steps=5)
    resumed = learn(core, loaded, drawn, tmp_path, keep=keep, steps=5)
    assert len(unbroken.previews) == 3
    assert all((a == b).all() for a, b in zip(resumed.previews, unbroken.previews, strict=True))


def test_previews_that_were_not_drawn_then_are_told(core, loaded, drawn, tmp_path):
    keep = {"preview_every": 1, "prompt": "red circle <R> blue square"}
    learn(core, loaded, drawn, tmp_path, steps=2)
    finished = learn(core, loaded, drawn, tmp_path, keep=keep, steps=2)
    assert "1 previews of earlier steps are not there; another training_seed draws them" in finished.messages
    with pytest.raises(Stop):
        learn(core, loaded, drawn, tmp_path, stop_at(2), steps=3, seed=5)
    resumed = learn(core, loaded, drawn, tmp_path, keep=keep, steps=3, seed=5)
    assert any("2 previews of earlier steps" in text for text in resumed.messages) and len(resumed.previews) == 1


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


@pytest.mark.parametrize(
    ("preset", "precision", "schedule", "optimizer"),
    [
        ("balanced", "auto", "cosine", "adamw"),
        ("balanced", "bf16", "constant", "adamw"),
        ("balanced", "auto", "constant", "tangent"),
        ("fast", "bf16", "linear", "adamw"),
        ("paper", "fp32", "constant", "adamw"),
    ],
)
def test_every_order_of_a_short_and_a_long_run_gives_what_unbroken_ones_give(
    core, loaded, drawn, tmp_path, preset, precision, schedule, optimizer
):
    given = dataclasses.asdict(core.settings.PRESETS[preset]) | {"batch_size": 1, "accumulation": 1}
    given |= {"precision": precision, "schedule": schedule, "optimizer": optimizer}

    def run(folder, steps, watch=lambda learner, previews: None):
        return learn(core, loaded, drawn, tmp_path / folder, watch, **{**given, "steps": steps})

    unbroken = {steps: run(f"unbroken {steps}", steps) for steps in (2, 4)}
    run("longer", 2)
    seen = Seen()
    assert torch.equal(vectors(run("longer", 4, seen)), vectors(unbroken[4]))
    assert seen == ([None, 3, 4] if schedule == "constant" else [None, 1, 2, 3, 4])
    assert torch.equal(vectors(run("longer", 2)), vectors(unbroken[2]))
    with pytest.raises(Stop):
        run("shorter", 4, stop_at(1))
    assert torch.equal(vectors(run("shorter", 2)), vectors(unbroken[2]))
    assert torch.equal(vectors(run("shorter", 4)), vectors(unbroken[4]))


def test_changed_inputs_start_anew_and_say_why(core, loaded, drawn, tmp_path, caplog):
    with pytest.raises(Stop):
        learn(core, loaded, drawn, tmp_path, stop_at(2), steps=3)
    seen = Seen()
    with caplog.at_level(logging.INFO):
        learn(core, loaded, drawn, tmp_path, seen, steps=3, seed=5)
    assert seen == [None, 1, 2, 3]
    assert "learned from the beginning; not as in the training before: seed (0 -> 5)" in caplog.text


def test_a_device_that_fails_loses_nothing_that_was_learned(core, loaded, drawn, tmp_path, monkeypatch):
    def fail(*given):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(core.run.host, "unload_twins", fail)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        learn(core, loaded, drawn, tmp_path, lambda learner, _: learner and learner.step == 2 and fail(), steps=3)
    (kept,) = tmp_path.glob("runs/*/relation.safetensors")
    assert core.relation.load(kept).metadata["reversion.steps_done"] == "2"


def test_it_is_saved_every_few_steps(core, loaded, drawn, tmp_path):
    saved = []

    def look(learner, previews):
        files = list(tmp_path.glob("runs/*/relation.safetensors"))
        saved.append(files and core.relation.load(files[0]).metadata["reversion.steps_done"])

    learn(core, loaded, drawn, tmp_path, look, {"save_every": 2}, steps=5)
    assert saved == [[], [], "2", "2", "4", "4"]


def test_a_damaged_state_is_left_alone(core, loaded, drawn, tmp_path, caplog):
    with pytest.raises(Stop):
        learn(core, loaded, drawn, tmp_path, stop_at(2), steps=3)
    (state,) = tmp_path.glob("runs/*/state.safetensors")
    state.write_bytes(state.read_bytes()[:100])
    seen = Seen()
    learn(core, loaded, drawn, tmp_path, seen, steps=3)
    assert seen == [None, 1, 2, 3] and "is damaged" in caplog.text


@pytest.mark.parametrize("file", ["relation.safetensors", "log.csv"])
def test_a_damaged_result_does_not_stand_in_the_way(core, loaded, drawn, tmp_path, file):
    first = learn(core, loaded, drawn, tmp_path)
    (damaged,) = tmp_path.glob(f"runs/*/{file}")
    damaged.write_bytes(damaged.read_bytes()[:60])
    again = learn(core, loaded, drawn, tmp_path)
    assert torch.equal(vectors(again), vectors(first)) and again.history == first.history
    assert (
        core.relation.load(next(tmp_path.glob("runs/*/relation.safetensors"))).metadata["reversion.steps_done"] == "2"
    )


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(core, loaded, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full_disk)
    seen = Seen()
    with pytest.raises(core.errors.ReVersionError, match="autosave.*No space left on device"):
        learn(core, loaded, drawn, tmp_path, seen)
    assert seen == []


def test_a_disk_that_fills_up_on_the_way_costs_nothing_that_was_learned(
    core, loaded, drawn, tmp_path, monkeypatch, caplog
):
    plain = learn(core, loaded, drawn, tmp_path / "plain")

    def fill_up(learner, previews):
        monkeypatch.setattr(os, "fsync", full_disk)

    assert torch.equal(vectors(learn(core, loaded, drawn, tmp_path, fill_up)), vectors(plain))
    assert "could not save the relation so far" in caplog.text


def test_where_the_disk_filled_up_nothing_is_said_to_be_kept(core, loaded, drawn, tmp_path, monkeypatch):
    told = []

    def fill_up(learner, previews):
        if learner and learner.step == 3:
            monkeypatch.setattr(os, "fsync", full_disk)
        if learner and learner.step == 4:
            raise Stop

    with pytest.raises(Stop):
        keep = {"save_every": 2, "on_message": told.append}
        learn(core, loaded, drawn, tmp_path, fill_up, keep, steps=6)
    cannot, stopped = told[-2:]
    assert "cannot be saved in" in cannot and "free space on the disk" in cannot
    assert stopped.startswith("stopped; the relation of step 2 is kept in")


def full_disk(descriptor):
    raise OSError(28, os.strerror(28))


def test_a_state_that_is_readable_but_wrong_is_set_aside(core, loaded, drawn, tmp_path):
    with pytest.raises(Stop):
        learn(core, loaded, drawn, tmp_path, stop_at(2), steps=3)
    (state,) = tmp_path.glob("runs/*/state.safetensors")
    save_file({"history": torch.zeros(2, 5)}, state)
    seen, told = Seen(), []
    learn(core, loaded, drawn, tmp_path, seen, {"on_message": told.append}, steps=3)
    assert seen == [None, 1, 2, 3] and "cannot be used (it lacks" in told[0]
    assert state.with_suffix(".damaged").exists()


def test_old_runs_are_pruned_but_not_those_of_the_last_days(core, loaded, drawn, tmp_path):
    old, recent = tmp_path / "runs" / "2020-01-01_000000_old_{}_2", tmp_path / "runs" / "2020-01-01_000000_new_{}_2"
    days = 86_400
    for i in range(25):
        for kind, age in ((old, 30 * days), (recent, days)):
            folder = Path(str(kind).format(i))
            folder.mkdir(parents=True)
            (folder / "state.safetensors").write_bytes(b"x")
            if i % 2:
                (folder / "relation.safetensors").write_bytes(b"x")
            os.utime(folder / "state.safetensors", (time.time() - age, time.time() - age))
    partial = tmp_path / "runs" / ".killed.partial"
    partial.write_bytes(b"x")
    os.utime(partial, (0, 0))
    learn(core, loaded, drawn, tmp_path)
    names = [path.name for path in (tmp_path / "runs").iterdir()]
    assert sum("_new_" in name for name in names) == 25
    # What was learned stays; what only going on needs does not.
    old = [path for path in (tmp_path / "runs").iterdir() if "_old_" in path.name]
    assert [[file.name for file in path.iterdir()] for path in old] == [["relation.safetensors"]] * 12
    assert ".killed.partial" not in names


def test_the_file_says_what_it_was_made_with_and_went_on_from(core, loaded, drawn, tmp_path):
    with pytest.raises(Stop):
        learn(core, loaded, drawn, tmp_path, stop_at(1), steps=2)
    made_with = json.loads(learn(core, loaded, drawn, tmp_path, steps=2).relation.metadata["reversion.made_with"])
    assert made_with["torch"] == torch.__version__ and made_with["pack"] == core.run.VERSION
    assert made_with["resumed_from"][0]["step"] == 1 and made_with["resumed_from"][0]["pack"] == core.run.VERSION


def test_a_resume_tells_what_differs_from_where_it_began(core, loaded, drawn, tmp_path, monkeypatch):
    provenance = core.run.host.provenance
    monkeypatch.setattr(
        core.run.host, "provenance", lambda *given: provenance(*given) | {"torch": "1.0", "device": "A"}
    )
    with pytest.raises(Stop):
        learn(core, loaded, drawn, tmp_path, stop_at(1), steps=2)
    monkeypatch.undo()
    told = learn(core, loaded, drawn, tmp_path, steps=2).messages
    assert [text for text in told if "resumed" in text] == [
        "resumed after step 1 of an equal training, begun with torch 1.0, the device A"
    ]


def test_a_run_that_goes_on_with_latents_of_another_kind_says_so(core, loaded, drawn, tmp_path, monkeypatch):
    with pytest.raises(Stop):
        learn(core, loaded, drawn, tmp_path, stop_at(1))
    scaled_posterior = core.run.host.scaled_posterior
    monkeypatch.setattr(
        core.run.host, "scaled_posterior", lambda *given: scaled_posterior(*given)._replace(tiled=(0, 3))
    )
    seen = Seen()
    learned = learn(core, loaded, drawn, tmp_path, seen)
    assert seen == [None, 2] and learned.relation.detail("made_with")["tiled"] == 2
    told = [text for text in learned.messages if "tiles" in text]
    assert told == [
        "2 of 8 pictures were encoded in tiles, for want of memory: less exactly",
        "its pictures were encoded differently then, in tiles or whole: not the same bit for bit",
    ]


def test_latents_that_are_no_numbers_are_the_vae_s_fault(core, loaded, drawn, tmp_path, monkeypatch):
    """As with an SDXL VAE in half precision."""
    monkeypatch.setattr(loaded.vae, "encode", lambda pixels: torch.full((1, 4, 8, 8), float("nan")))
    with pytest.raises(core.errors.ReVersionError, match=r"input 'vae': .* no finite numbers; .*--fp32-vae"):
        learn(core, loaded, drawn, tmp_path)


@pytest.fixture
def judging(core, monkeypatch):
    """The comparison with words, also of a short training; gives the function that lets it fail with an error."""
    from reversion_pack.reversion_core.training import verdict

    monkeypatch.setattr(verdict, "SMALLEST_TRAINING", 1)
    monkeypatch.setattr(verdict, "SCREENING_DRAWS", 1)
    encoded = verdict._Judge._encoded

    def fails(error):
        def _encoded(self, *given):
            if error is not None:
                raise error
            return encoded(self, *given)

        monkeypatch.setattr(verdict._Judge, "_encoded", _encoded)

    return fails


@pytest.mark.parametrize("resume", [True, False])
def test_a_training_that_is_stopped_before_its_verdict_gets_it_at_the_next_run(
    core, loaded, drawn, tmp_path, judging, resume
):
    judging(Stop())
    told, seen = [], Seen()
    with pytest.raises(Stop):
        learn(core, loaded, drawn, tmp_path, keep={"on_message": told.append})
    assert "learned; now <R> is compared with words" in told
    judging(None)
    judged = learn(core, loaded, drawn, tmp_path, seen, {"resume": resume})
    assert seen == [None] and judged.relation.detail("verdict")["text"] in judged.messages
    again = learn(core, loaded, drawn, tmp_path)
    assert again.relation.detail("verdict") == judged.relation.detail("verdict")
    assert any("learned before" in text for text in again.messages)


def test_a_verdict_that_fails_ends_nothing(core, loaded, drawn, tmp_path, judging):
    judging(RuntimeError("no comparison"))
    learned = learn(core, loaded, drawn, tmp_path)
    assert len(learned.history) == 2 and learned.relation.detail("verdict") == {}
    assert "<R> could not be compared with words (no comparison)" in learned.messages
    assert any("learned before" in text for text in learn(core, loaded, drawn, tmp_path).messages)


def judged(core, monkeypatch):
    """The steps after which a verdict was asked for."""
    steps = []
    monkeypatch.setattr(core.run, "judge", lambda learner, *given: steps.append(learner.step))
    return steps


def test_a_resume_that_needs_checkpointing_draws_no_preview_twice(core, loaded, drawn, tmp_path, monkeypatch):
    from reversion_pack.reversion_core.host import plan

    keep, steps = {"preview_every": 2, "prompt": "red circle <R> blue square"}, judged(core, monkeypatch)
    with pytest.raises(Stop):
        learn(core, loaded, drawn, tmp_path, stop_at(3), keep, steps=4)
    monkeypatch.setattr(plan, "memory_plan", lambda *arguments: plan.MemoryPlan(1000, 1, 500))
    resumed = learn(core, loaded, drawn, tmp_path, keep=keep, steps=4)
    assert len(resumed.previews) == 2 and steps == [4]


def test_a_run_whose_last_step_was_done_gets_its_verdict_and_no_second_preview(
    core, loaded, drawn, tmp_path, monkeypatch
):
    from reversion_pack.reversion_core.host import plan

    keep, steps = {"preview_every": 0, "prompt": "red circle <R> blue square"}, judged(core, monkeypatch)
    learn(core, loaded, drawn, tmp_path, keep=keep)
    next(tmp_path.glob("runs/*/log.csv")).unlink()
    monkeypatch.setattr(plan, "memory_plan", lambda *arguments: plan.MemoryPlan(1000, 1, 500))
    resumed = learn(core, loaded, drawn, tmp_path, keep=keep)
    assert len(resumed.previews) == 1 and steps == [2, 2]


def test_a_preview_that_fails_ends_nothing(core, loaded, drawn, tmp_path, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("no picture")

    monkeypatch.setattr(core.host, "draw_preview", fail)
    told = []
    keep = {"preview_every": 1, "prompt": "cat <R> stone", "on_message": told.append}
    learned = learn(core, loaded, drawn, tmp_path, keep=keep)
    assert len(learned.history) == 2 and learned.previews == []
    assert sum("the preview of step" in text and "no picture" in text for text in told) == 2


def test_an_embedding_in_a_caption_that_changed_is_another_run(core, loaded, drawn, tmp_path, embeddings):
    captions = tuple((f"embedding:ofcaption {caption}",) for (caption,) in drawn.captions)
    exemplars = dataclasses.replace(drawn, captions=captions)
    for run, value in enumerate((0.01, 0.02)):
        vectors = {"clip_l": torch.full((1, 768), value)}
        core.relation.save(core.relation.Relation(vectors), embeddings / "ofcaption.safetensors")
        learn(core, loaded, exemplars, tmp_path, steps=1, batch_size=1)
        assert len(list(tmp_path.glob("runs/*"))) == run + 1
