"""What is taken for done."""

import json

import pytest

from fleet.actor import Outcome
from fleet.errors import FleetError
from fleet.results import Results

DATA = [("a-000-x.png", "x_00001_.png", b"picture")]


def land(results, job, files=(), error=None):
    results.land(job, {"seed": 1}, "here", Outcome(1.0, list(files), error=error))


def test_only_whole_successes_are_done(tmp_path):
    with Results(tmp_path) as results:
        land(results, "a", DATA)
        land(results, "b", error="no")
        land(results, "c")
        land(results, "d", error="no")
        land(results, "d")
        assert results.done()[0] == {"a", "c", "d"}
        (tmp_path / "a-000-x.png").write_bytes(b"pict")
        assert results.done()[0] == {"c", "d"}


def test_a_line_that_was_cut_off_harms_no_other(tmp_path):
    with Results(tmp_path) as results:
        land(results, "a", DATA)
    (tmp_path / "manifest.jsonl").open("a").write('{"job": "b", "err')
    (tmp_path / "b-000-x.png.77.partial").write_bytes(b"pi")
    with Results(tmp_path) as results:
        land(results, "b", DATA)
        assert results.done()[0] == {"a", "b"}
    assert not list(tmp_path.glob("*.partial"))
    assert json.loads((tmp_path / "manifest.jsonl").read_text().splitlines()[0])["outputs"][0]["bytes"] == 7


def test_two_runs_do_not_share_a_folder(tmp_path):
    with Results(tmp_path), pytest.raises(FleetError, match="another run"), Results(tmp_path):
        pass
