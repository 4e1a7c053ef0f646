"""Tables of scores: what is written is read back, what is added counts once, and what is no table is named."""

import csv
import io
import threading

import numpy as np
import pytest

from reversion_core.report import score_table, time_left
from reversion_core.report.intervals import interval
from reversion_core.report.score_table import Measured, NoTable, Row

WAY = Measured("painted on", "tiny", "<R>")
HEAD = ",".join(score_table.COLUMNS)
ROW = "cat <R> stone,0.25,0.03,painted on,tiny,<R>,aa"


def row(prompt, picture, entity=0.25, relation=0.03, way=WAY):
    return Row(prompt, picture, way, entity, relation)


def test_a_table_reads_back_as_it_was_written(tmp_path):
    rows = [row('a "cat", grey <R> stone', "aa", 0.1234, -0.5), row("cat\n<R> stone", "bb", 1.0, 0.0)]
    assert score_table.add(tmp_path / "t.csv", rows) == rows == score_table.read(tmp_path / "t.csv")
    found = list(csv.DictReader(io.StringIO((tmp_path / "t.csv").read_text(), newline="")))
    assert [r["prompt"] for r in found[2:]] == ["mean", "95% from", "95% to"]
    assert float(found[2]["relation_score"]) == pytest.approx(-0.25)
    assert [r["phrase"] for r in found] == ["painted on"] * 2 + [""] * 3
    data = (tmp_path / "t.csv").read_bytes()
    score_table.add(tmp_path / "t.csv", [])
    assert (tmp_path / "t.csv").read_bytes() == data


def test_a_picture_counts_once_and_equal_scores_of_other_pictures_each(tmp_path):
    path = tmp_path / "t.csv"
    score_table.add(path, [row("a <R> b", "aa"), row("a <R> b", "bb")])
    again = score_table.add(path, [row("a <R> b", "bb", relation=1.0), row("c <R> d", "bb"), row("a <R> b", "cc")])
    assert [r.key for r in again] == [("a <R> b", "aa"), ("a <R> b", "bb"), ("c <R> d", "bb"), ("a <R> b", "cc")]
    assert [r.relation_score for r in again] == [0.03, 1.0, 0.03, 0.03]


def test_programs_that_add_to_a_table_at_once_lose_no_row(tmp_path):
    added = [row("a <R> b", f"{number:02}") for number in range(24)]
    threads = [threading.Thread(target=score_table.add, args=(tmp_path / "t.csv", [one])) for one in added]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {r.key for r in score_table.read(tmp_path / "t.csv")} == {r.key for r in added}


def test_a_table_of_its_own_never_takes_the_place_of_another(tmp_path):
    for relation, name in ((1, "s.csv"), (2, "s-2.csv"), (2, "s-2.csv")):
        assert score_table.write_new(tmp_path / "s.csv", [row("a <R> b", "aa", relation=relation)]).name == name
    assert "a <R> b,0.2500,1.0000" in (tmp_path / "s.csv").read_text()


def test_pictures_are_told_apart():
    picture = np.zeros((4, 6, 3), np.uint8)
    other = picture.copy()
    other[3, 5, 2] = 1
    names = {score_table.fingerprint(p) for p in (picture, other, picture.reshape(6, 4, 3))}
    assert len(names) == 3 and score_table.fingerprint(picture.copy()) in names


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row("a <R> b", "aa")], "relation 0.030, entity 0.250, 1 picture of 1 prompt"),
        (
            [row(f"{p} <R> b", str(i)) for p in "abcdefgh" for i in range(2)],
            "relation 0.030 (0.030 to 0.030), entity 0.250 (0.250 to 0.250), 16 pictures of 8 prompts",
        ),
        (  # so few prompts tell nothing of others
            [row(f"{p} <R> b", str(i)) for p in "abcdefg" for i in range(4)],
            "relation 0.030, entity 0.250, 28 pictures of 7 prompts",
        ),
    ],
)
def test_a_table_in_words(rows, said):
    assert score_table.in_words(rows) == said


def test_the_interval_of_a_table_redraws_prompts():
    rows = [row(f"{p} <R> b", f"{p}{i}", relation=float(p % 2)) for p in range(10) for i in range(50)]
    found = score_table.summary(rows)["relation_score"]
    # Of prompts: 1.96 x 0.5 / sqrt(10); of pictures it would be 0.04.
    assert found["mean"] == 0.5 and found["high"] - found["low"] == pytest.approx(2 * 1.96 * 0.5 / 10**0.5, rel=0.15)


def test_an_interval_redraws_groups_of_every_size():
    rng = np.random.default_rng(0)
    groups = [rng.normal(n % 2, 1, size) for n, size in enumerate([1, 2, 3, 50] * 5)]
    found, expected = interval(groups), []
    for _ in range(4000):
        of_groups = [groups[n] for n in rng.integers(0, len(groups), len(groups))]
        expected.append(np.concatenate([g[rng.integers(0, len(g), len(g))] for g in of_groups]).mean())
    low, high = np.quantile(expected, [0.025, 0.975])
    assert (found["low"], found["high"]) == (pytest.approx(low, abs=0.05), pytest.approx(high, abs=0.05))


def test_the_mean_is_that_of_all_pictures_however_many_a_prompt_has():
    found = interval([[1.0] * 90, [0.0] * 10])
    assert found["mean"] == pytest.approx(0.9) and found["low"] == 0 and found["high"] == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no CSV file"),
        (b"\xff\xfe\x00", "no CSV file"),
        (b"\x89PNG\r\n", "no CSV file|its columns are not"),
        (b"prompt,entity_score,relation_score\nmean,1,2\n", "its columns are not prompt, entity_score"),
        (f"{HEAD}\n{ROW}\n".encode(), "its end is missing"),
        (f"{HEAD}\n{ROW}\n{ROW[:20]}".encode(), "line 3 has 3 values instead of 7"),
        (f"{HEAD}\n{ROW}\nmean,1,2,,,,\n{ROW.replace('0.25', 'nan')}".encode(), "'nan' in line 4 is no number"),
        (f"{HEAD}\n{ROW}\nmean,1,2,,,,\n{ROW.replace('0.25', '')}".encode(), "'' in line 4 is no number"),
        (f'{HEAD}\n"cat'.encode(), "no CSV file"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, data, said):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(NoTable, match=said):
        score_table.read(tmp_path / "t.csv")
    (tmp_path / "t.csv").unlink()
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(NoTable, match="it cannot be read"):
        score_table.read(tmp_path / "t.csv")


@pytest.mark.parametrize(
    "text",
    [
        "entity_score,relation_score\n0.5,1\n0.25,-1e-1\n",
        "\ufeff\r\n file ; relation_score;entity_score\r\n\r\na;1;0.5\r\nb;-0.1;0.25",
        "entity_score\trelation_score\tnote\n0.5\t1\tx, y\n0.25\t-0.1\t",
    ],
)
def test_a_table_of_another_judge_is_read_by_its_names(text):
    assert score_table.judged(text) == [(0.5, 1.0), (0.25, -0.1)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no table as CSV"),
        (None, "no table as CSV"),
        ("0.5,1\n0.25,0", "names no column entity_score"),
        ("entity_score\n1", "names no column relation_score"),
        ("entity_score,entity_score,relation_score\n1,1,1", "or two of them"),
        ("entity_score,relation_score\n1\n", "line 2 has 1 values instead of 2"),
        ("entity_score,relation_score\n1,1\n1,high\n", "'high' in line 3 is no number"),
        ("entity_score,relation_score\nnan,1\n", "'nan' in line 2 is no number"),
        ("entity_score,relation_score\n1,inf\n", "'inf' in line 2 is no number"),
    ],
)
def test_a_table_of_another_judge_that_says_too_little_is_named(text, said):
    with pytest.raises(NoTable, match=said):
        score_table.judged(text)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "a few seconds left"),
        (12.4, "about 10 seconds left"),
        (44, "about 40 seconds left"),
        (200, "about 3 minutes left"),
        (5400, "about 1.5 hours left"),
    ],
)
def test_the_time_left_is_a_guess_and_reads_like_one(seconds, said):
    assert time_left.about(seconds) == said


def test_a_bar_of_letters_is_as_full_as_the_work_is_done():
    bars = [time_left.bar(done, 3) for done in (0, 1, 3)]
    assert [bar.count("\u2588") for bar in bars] == [0, 6, 20] and {len(bar) for bar in bars} == {20}
