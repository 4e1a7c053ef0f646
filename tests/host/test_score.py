"""ReVersion Score and the tables that it adds to, with numbers in place of a CLIP's."""

import numpy as np
import pytest
import torch

JUDGED = "entity_score,relation_score\n"


@pytest.fixture
def score(reversion, tmp_path, monkeypatch):
    """Runs the node on pictures of given grey, a batch a prompt; `score.seen` has the pictures that CLIP looked at.

    The relation score of a picture is its grey.
    """
    from reversion_pack.nodes import tools

    monkeypatch.setattr(tools.places, "clip_folder", lambda name, node: tmp_path)
    monkeypatch.setattr(tools.places, "output_folder", lambda: tmp_path)
    monkeypatch.setattr(tools.scoring, "load", lambda folder, node: (None, None))
    monkeypatch.setattr(tools.scoring, "BATCH", 2)

    def scores(model, processor, pictures, wanted):
        greys = [float(picture.mean()) / 255 for picture in pictures]
        run.seen += greys
        if run.cancel_at in np.round(greys, 2):
            raise KeyboardInterrupt
        return np.ones(len(pictures)), np.array(greys)

    monkeypatch.setattr(tools.scoring, "scores", scores)

    def run(greys, prompts=("cat <R> stone",), adding=True, phrase="on", clip="clip", placeholder="<R>", judged=None):
        run.seen = []
        images = [torch.tensor(batch).reshape(-1, 1, 1, 1).expand(-1, 8, 8, 3) for batch in greys]
        more = {} if judged is None else {"judged": [judged] if isinstance(judged, str) else judged}
        given = (images, list(prompts), [phrase], [clip], [placeholder], ["s"], [adding])
        return tools.ReVersionScore.execute(*given, **more).args

    run.cancel_at = None
    run.path = tmp_path / "s.csv"
    return run


def test_pictures_are_added_run_by_run_and_none_twice(score):
    table, entity, relation = score([[0.2, 0.4]])
    assert relation == pytest.approx(0.3, abs=0.01) and entity == 1
    table, _, relation = score([[0.6, 0.8]], ["dog <R> stone"])
    assert relation == pytest.approx(0.5, abs=0.01)
    assert "relation 0.500, entity" in table and table.endswith("4 pictures of 2 prompts")
    assert table.count("cat <R> stone") == 2
    before = score.path.read_bytes()
    assert score([[0.6, 0.8]], ["dog <R> stone"])[0] == table and score.seen == []
    assert score.path.read_bytes() == before and len(list(score.path.parent.glob("*.csv"))) == 1


def test_without_adding_each_run_has_a_table_of_its_own(score):
    score([[0.2, 0.2]], adding=False)
    table, _, relation = score([[0.6]], adding=False)
    assert relation == pytest.approx(0.6, abs=0.01) and "1 picture of 1 prompt" in table
    assert {path.name for path in score.path.parent.glob("*.csv")} == {"s.csv", "s-2.csv"}


def test_what_is_scored_before_a_cancel_is_kept_and_not_scored_again(score):
    score.cancel_at = 0.6
    with pytest.raises(KeyboardInterrupt):
        score([[0.2, 0.4], [0.6, 0.8]], ["cat <R> stone", "dog <R> stone"])
    assert score.path.read_text().count("cat <R> stone") == 2 and "dog" not in score.path.read_text()
    score.cancel_at = None
    table, _, _ = score([[0.2, 0.4], [0.6, 0.8]], ["cat <R> stone", "dog <R> stone"])
    assert np.round(score.seen, 1).tolist() == [0.6, 0.8] and "4 pictures of 2 prompts" in table
    score.cancel_at = 0.2
    with pytest.raises(KeyboardInterrupt):
        score([[0.2]], adding=False)
    assert len(list(score.path.parent.glob("*.csv"))) == 1


def test_scoring_shows_its_bar_and_latest_picture_and_heeds_the_cancel_button(score, monkeypatch):
    import comfy.model_management
    import comfy.utils

    shown = []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda *state, node_id: shown.append(state))
    prompts = ["cat <R> stone", "dog <R> stone"]
    comfy.model_management.interrupt_current_processing(True)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        score([[0.2, 0.4], [0.6]], prompts)
    assert score.path.read_text().count("cat <R> stone") == 2
    score([[0.2, 0.4], [0.6]], prompts)
    assert [state[:2] for state in shown] == [(0, 3), (2, 3), (3, 3)]
    assert shown[0][2] is None and shown[2][2][1].getpixel((0, 0)) == (153, 153, 153)


@pytest.mark.parametrize(
    ("judged", "relation"),
    [
        (JUDGED + "1,0.5\n0,1\n1,0", 0.5),
        ([JUDGED + "1,0.5\n0,1", JUDGED + "1,0"], 0.5),
    ],
)
def test_another_judge_s_scores_stand_in_the_table_as_a_clip_s(score, judged, relation):
    table, entity, found = score([[0.2, 0.4], [0.6]], ["a red cat", "a stone"], clip="anything", judged=judged)
    assert (entity, found) == (pytest.approx(2 / 3, abs=1e-4), relation) and score.seen == []
    assert ",on,judged,<R>," in score.path.read_text()
    # Whoever judges again means the newest.
    _, _, found = score([[0.2]], ["a red cat"], judged=JUDGED + "1,0.8")
    assert found == pytest.approx(0.6, abs=1e-4)


@pytest.mark.parametrize(
    ("judged", "said"),
    [
        (JUDGED + "1,1", "the number of its lines is 1 and that of the pictures 2; give a line for each, in the order"),
        ([JUDGED + "1,1\n1,1", JUDGED], "the number of its lines is 2 and that of the pictures 1"),
        ("relation_score\n1\n1", "its first line names no column entity_score.*; write entity_score,relation_score"),
        (JUDGED + "1,1\n1,yes", "'yes' in line 3 is no number; write"),
        (JUDGED + "1,1\n1,nan", "'nan' in line 3 is no number; write"),
    ],
)
def test_scores_of_another_judge_that_do_not_fit_are_refused(score, core, judged, said):
    prompts = ["cat <R> stone", "dog <R> stone"]
    with pytest.raises(core.errors.ReVersionError, match=f"ReVersion Score, input 'judged': {said}"):
        score([[0.2], [0.4]], prompts, judged=judged)
    assert not score.path.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"phrase": "inside"}, "'s.csv' was measured with the phrase 'on' and not 'inside'"),
        ({"clip": "large"}, "'s.csv' was measured with the judge 'clip' and not 'large'"),
        ({"judged": JUDGED + "1,1"}, "'s.csv' was measured with the judge 'clip' and not 'judged'"),
        ({"prompts": ["cat on stone"], "placeholder": "on"}, "with the placeholder '<R>' and not 'on'"),
    ],
)
def test_a_table_that_was_measured_otherwise_is_not_added_to(score, core, options, said):
    score([[0.2]])
    before = score.path.read_bytes()
    with pytest.raises(
        core.errors.ReVersionError, match=f"ReVersion Score, input 'name': .*{said}; choose another name"
    ):
        score([[0.4]], **options)
    assert score.path.read_bytes() == before and score.seen == []


def test_a_file_that_is_no_table_is_not_added_to(score, core):
    score.path.write_text("prompt,entity_score,relation_score\nmean,1,2\n")
    said = r"'s.csv' is no table of scores that can be added to \(its columns are not .*\); choose another name"
    with pytest.raises(core.errors.ReVersionError, match=f"input 'name': {said}"):
        score([[0.4]])
    assert "mean,1,2" in score.path.read_text() and score.seen == []


def test_a_table_that_cannot_be_written_is_a_sentence(score, core, monkeypatch):
    from reversion_pack.nodes import tools

    def refuse(path, data):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tools.score_table, "write_whole", refuse)
    with pytest.raises(core.errors.ReVersionError, match="'s.csv' cannot be written .Permission denied.; close it"):
        score([[0.4]])


def test_a_clip_folder_is_asked_for_only_where_a_clip_judges(reversion):
    from reversion_pack.nodes.tools import ReVersionScore

    assert ReVersionScore.validate_inputs(clip_folder=["lost"], judged=(None,)) is True
    assert "there is no CLIP folder 'lost'" in ReVersionScore.validate_inputs(clip_folder=["lost"])


def test_a_grid_says_the_time_left_where_the_run_before_was_for_the_prompt_before(reversion, monkeypatch):
    from types import SimpleNamespace

    from reversion_pack.nodes import progress

    now = iter([0, 60, 130, 190, 200])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(progress, "_grids", {})
    node = SimpleNamespace(hidden=SimpleNamespace(unique_id="7"))
    said = [progress.show_entry(node, ["a", "b", "c", "d"], number) for number in (0, 1, 2, 2)]
    assert said == ["", "about 3 minutes left", "about 2 minutes left", ""]
    assert progress.show_entry(node, ["a", "b", "c", "e"], 3) == ""
