"""Columns of a table as inputs of a workflow."""

import csv
import json

import pytest
from running import drawing

from fleet.__main__ import main
from fleet.errors import FleetError
from fleet.jobs import Jobs
from fleet.table_file import read_table
from fleet.workflow import from_api


def test_columns_are_found_by_id_title_class_and_short_name():
    row = {"prompt": "a dog", "negative": "a fox", "seed": "7", "Sampler.cfg": "2.5", "SaveImage.filename_prefix": "x"}
    jobs = Jobs(from_api(drawing(**{"cat-sample": "Sampler"})), [row])
    graph = jobs.graph(0)
    assert graph["cat-text"]["inputs"]["text"] == "a dog" and graph["no-text"]["inputs"]["text"] == "a fox"
    assert graph["cat-sample"]["inputs"]["seed"] == 7 and graph["cat-sample"]["inputs"]["cfg"] == 2.5
    assert graph["cat"]["inputs"]["filename_prefix"] == "x"
    assert jobs.workflow.graph["cat-text"]["inputs"]["text"] == "a cat"


def test_a_job_is_known_by_its_graph_and_not_by_its_titles():
    one = Jobs(from_api(drawing()), [{"seed": "7"}, {"seed": "8"}, {"seed": 7}])
    other = Jobs(from_api(drawing(cat="Other title")), [{"seed": "7"}])
    assert one.ids[0] == one.ids[2] == other.ids[0] != one.ids[1]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"promt": "a dog"}, "column 'promt' names no input; there are checkpoint.ckpt_name, cat-text.text"),
        ({"text": "a dog"}, "column 'text' could be any of cat-text.text, no-text.text"),
        ({"CLIPTextEncode.text": "a dog"}, "could be any of cat-text.text, no-text.text"),
        ({"prompt": "a dog", "cat-text.text": "a fox"}, "column 'cat-text.text' is named twice cat-text.text"),
        ({"seed": "seven"}, "row 1, column 'seed': 'seven' is not a value like 3"),
    ],
)
def test_a_column_that_is_not_clear_is_an_error_with_the_candidates(row, sentence):
    with pytest.raises(FleetError) as caught:
        Jobs(from_api(drawing()), [row])
    assert sentence in str(caught.value)


def test_all_wrong_columns_are_named_before_anything_runs(fleet):
    status, said, _ = fleet(drawing(), [{"promt": "a dog", "sed": "7"}], "--host", "http://127.0.0.1:1")
    assert status == 2 and "'promt'" in said and "'sed'" in said and "127.0.0.1:1" not in said


def test_tables_are_read_from_csv_and_json_lines(tmp_path):
    (tmp_path / "a.csv").write_text('prompt,seed\n"a cat, a dog",1\n', encoding="utf-8-sig")
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "a cat", "seed": 1}) + "\n\n")
    assert read_table(tmp_path / "a.csv").rows == [{"prompt": "a cat, a dog", "seed": "1"}]
    assert read_table(tmp_path / "a.jsonl").rows == [{"prompt": "a cat", "seed": 1}]
    (tmp_path / "a.csv").write_text("prompt,seed\na cat\n")
    with pytest.raises(FleetError, match="row 1"):
        read_table(tmp_path / "a.csv")


def ready(capsys, *words):
    assert main(["table", *words]) == 0
    return list(csv.DictReader(capsys.readouterr().out.splitlines()))


def test_a_ready_table_of_a_file_of_lists(tmp_path, capsys):
    path = tmp_path / "mine.json"
    path.write_text('{"near": {"subjects": ["cat"], "objects": ["stone", "box"]}}')
    rows = ready(capsys, "benchmark", "--relation", "near", "--lists", str(path), "--seeds", "1")
    assert [row["prompt"] for row in rows] == ["cat <R> stone", "cat <R> box"]
    path.write_text("{}")
    assert main(["table", "benchmark", "--relation", "near", "--lists", str(path)]) == 2
    assert "mine.json: cannot be read as lists of prompts" in capsys.readouterr().err


def test_ready_tables(capsys):
    rows = ready(capsys, "benchmark", "--relation", "inside", "--file", "in.safetensors")
    assert len(rows) == 1000 and len({(row["prompt"], row["seed"]) for row in rows}) == 1000
    assert set(rows[0]) == {"relation", "prompt", "seed"} and "<R>" in rows[0]["prompt"]
    assert ready(capsys, "folders", "input/carved by", "input/inside/") == [
        {"folder": "carved by", "name": "carved-by"},
        {"folder": "inside", "name": "inside"},
    ]
    assert main(["table", "benchmark", "--relation", "nonsense"]) == 2
    assert "'nonsense' is not in the lists; there are painted_on" in capsys.readouterr().err
