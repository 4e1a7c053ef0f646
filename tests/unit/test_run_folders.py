"""The folders of runs: what makes a training a new one, and what stands in no one's way."""

import errno
import os
import shutil
import time
from pathlib import Path

import pytest
import torch

from reversion_core.store import runs
from reversion_core.store.files import changed_at
from reversion_core.store.relation import Relation
from reversion_core.store.runs import STATE, RunFolder, RunKey

BEFORE = {"seed": "0", "model weights": "a" * 64, "model attachments": "none of them", "caption tokens": "1"}


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (BEFORE, ""),
        (BEFORE | {"seed": "5"}, "seed (0 -> 5)"),
        (BEFORE | {"model weights": "b" * 64}, "model weights"),
        (BEFORE | {"caption tokens": "2"}, ""),
        (BEFORE | {"augmentation": "views"}, "augmentation (none -> views)"),
        ({n: text for n, text in BEFORE.items() if n != "seed"}, "seed (0 -> none)"),
    ],
    ids=["the same", "another value", "another fingerprint", "derived", "an input that it lacked", "one less"],
)
def test_what_differs_from_the_latest_run_is_named(tmp_path, now, told):
    folders = [RunFolder(tmp_path, RunKey(parts), 1, "run") for parts in (BEFORE | {"seed": "9"}, BEFORE, now)]
    assert folders[0].changes() == ""
    learned = Relation({"clip_l": torch.zeros(1, 4)})
    for age, folder in zip((20, 10), folders, strict=False):
        folder.keep({"history": torch.zeros(1)}, [{"loss": 0.0}], learned, {})
        os.utime(folder.path / STATE, (10**9 - age, 10**9 - age))
    assert folders[2].changes() == told


def kept(root, seed="0", verdict="null", steps=1, done=1):
    """A run of so many steps, stopped or with its verdict, or None."""
    return keep(RunFolder(root, RunKey({"seed": seed}), steps, "run"), done, verdict)


def keep(folder, done, verdict="null"):
    said = {"reversion.steps_done": str(done)} | ({"reversion.verdict": verdict} if verdict else {})
    learned = Relation({"clip_l": torch.ones(1, 768)}, {"reversion.format_version": "1", **said})
    assert folder.keep({"history": torch.zeros(done, 1)}, [{"loss": 0.0}] * done, learned, {})
    return folder


def test_a_copy_of_a_run_s_folder_under_another_name_is_not_looked_at(tmp_path):
    folder = kept(tmp_path)
    shutil.copytree(folder.path, folder.path.with_name(f"{folder.path.name} - Copy"))
    assert [path.parent for path, *_ in folder.states()] == [folder.path]
    assert RunFolder(tmp_path, folder.key, 1, "run").path == folder.path


def test_a_run_that_was_not_compared_with_words_can_still_be(tmp_path):
    judged, unjudged, without_state = (kept(tmp_path, s, v) for s, v in (("0", "null"), ("1", None), ("2", None)))
    (without_state.path / STATE).unlink()
    folders = judged, unjudged, without_state
    assert all(folder.finished() is not None for folder in folders)
    assert [folder.lacks_verdict(folder.finished()[0]) for folder in folders] == [False, True, False]


def test_a_run_goes_on_from_the_furthest_of_equal_ones(tmp_path):
    kept(tmp_path, steps=30, done=2), kept(tmp_path, steps=10, done=10)
    assert [len(state["history"]) for _, state, _ in kept(tmp_path, steps=30, done=3).states()] == [10, 3]


def test_of_two_programs_that_do_the_same_run_at_once_neither_undoes_the_other(tmp_path):
    one, other = (RunFolder(tmp_path, RunKey({}), 4, "run") for _ in range(2))
    assert one.path == other.path
    keep(one, 2), keep(other, 1), keep(one, 4), keep(other, 2)
    assert one.path != other.path
    assert [len(state["history"]) for _, state, _ in one.states()] == [4, 2]
    again = RunFolder(tmp_path, RunKey({}), 4, "run")  # though the other's folder is newer
    assert again.path == one.path and again.finished() is not None


def test_what_was_learned_before_is_not_replaced_by_less(tmp_path):
    before = kept(tmp_path, steps=4, done=3)
    again = keep(RunFolder(tmp_path, before.key, 4, "run"), 1)
    assert again.path != before.path and len(before.states()) == 2


def test_a_finished_run_whose_state_was_deleted_is_found(tmp_path):
    finished, stopped = (RunFolder(tmp_path, RunKey({}), 4, "run") for _ in range(2))
    keep(finished, 2), keep(stopped, 1), keep(finished, 4)
    (finished.path / STATE).unlink()
    assert RunFolder(tmp_path, RunKey({}), 4, "run").finished() is not None


def test_a_folder_of_another_user_is_gone_on_from_and_left_as_it_is(tmp_path, monkeypatch):
    folder = kept(tmp_path, steps=3)
    probe = runs.check_writable

    def of_another(path):
        if path == folder.path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        probe(path)

    monkeypatch.setattr(runs, "check_writable", of_another)
    ours = RunFolder(tmp_path, folder.key, 3, "run")
    ours.check_writable("ReVersion Train")
    assert ours.path != folder.path and not ours.path.exists() and len(ours.states()) == 1


def test_a_state_that_may_not_be_read_is_left_as_it_is(tmp_path, monkeypatch):
    folder = kept(tmp_path, steps=3)

    def refused(path, *given):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", refused)
    assert folder.states() == [] and (folder.path / STATE).exists()


def test_what_cannot_be_deleted_stays_and_ends_nothing(tmp_path, monkeypatch):
    folders = [kept(tmp_path, str(seed)) for seed in range(3)]
    for folder in folders:
        os.utime(folder.path / STATE, (0, 0))
    monkeypatch.setattr(runs, "KEPT_RUNS", 1)
    unlink, refused = Path.unlink, folders[0].path / STATE

    def of_another(path, missing_ok=False):
        if path == refused:
            raise PermissionError("open in another program")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", of_another)
    folders[2].prune()
    assert [(folder.path / STATE).exists() for folder in folders] == [True, False, True]


def test_a_file_that_another_process_deleted_counts_as_just_changed(tmp_path):
    assert abs(changed_at(tmp_path / "gone") - time.time()) < 60


def test_looking_whether_it_can_be_kept_makes_no_folder_of_a_run(tmp_path):
    folder = RunFolder(tmp_path / "runs", RunKey({}), 1, "run")
    folder.check_writable("ReVersion Train")
    assert [*(tmp_path / "runs").iterdir()] == []
