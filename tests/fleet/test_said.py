"""What a user reads: whatever files and hosts hold, it ends in a sentence and an exit status."""

import copy
import io
import json
import random
import subprocess
import sys

import hostile
import pytest
from running import API, ROOT, canvas, command

from fleet import answers, driver, jobs, simulated, table_file, terminal, workflow
from fleet.__main__ import main
from fleet.errors import FleetError, HostFault, JobFailed
from fleet.results import Results

ODD = [None, True, 0, -1, 1e300, "", "x", "\ud800", [], {}, [[]], [None], {"": None}, ["4", 0], [1, 2, 3, 4, 5, 6]]
MUTATIONS = 1000


def mutated(rng, data):
    """A copy of JSON data with one value replaced, left out or doubled, at a random place."""
    data = copy.deepcopy(data)
    place, above = data, None
    while isinstance(place, dict | list) and place and (above is None or rng.random() < 0.8):
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        above, place = place, place[key]
    kind = rng.randrange(3)
    if kind == 0:
        above[key] = rng.choice(ODD)
    elif kind == 1:
        del above[key]
    elif isinstance(above, list):
        above.insert(key, place)
    else:
        above[str(key) + "x"] = place
    return data


def test_what_a_terminal_would_obey_is_shown_instead():
    said = "a\x1b]0;title\x07\x9b2J\u202eb\ud800\r\nä"
    assert terminal.printable(said) == "a\\x1b]0;title\\x07\\x9b2J\\u202eb\\ud800\\r\nä"
    assert terminal.printable(said, "ascii").endswith("\n\\xe4")
    assert terminal.printable("x" * 5000).endswith("x ... (5000 characters)")


def test_the_messages_of_a_host_reach_an_ascii_terminal_as_text(tmp_path, monkeypatch):
    host = hostile.Failing()
    host.message = "\x1b[2Jno \ud800 \u732b"
    terminals = {name: io.TextIOWrapper(io.BytesIO(), encoding="ascii") for name in ("stdout", "stderr")}
    with hostile.serving(host) as url:
        words = command(tmp_path, simulated.graph(0.0), [{"number": 1}], "--host", url, out=tmp_path / "out")
        for name, file in terminals.items():
            monkeypatch.setattr(sys, name, file)
        assert main(words) == 1
    terminals["stdout"].flush()
    said = terminals["stdout"].buffer.getvalue()
    assert b"row 1 failed" in said and b"\\x1b[2Jno \\ud800 \\u732b" in said


def test_without_ray_one_sentence_says_so_and_tables_are_made_all_the_same(tmp_path):
    words = command(tmp_path, simulated.graph(0.0), [{"number": 1}], "--host", "http://h", out=tmp_path / "out")
    start = "import sys; sys.modules |= dict.fromkeys(['ray', 'aiohttp', 'tqdm']); from fleet.__main__ import main; "
    ended = [
        subprocess.run(
            [sys.executable, "-c", f"{start}sys.exit(main({given}))"], cwd=ROOT, capture_output=True, text=True
        )
        for given in (words, ["table", "folders", "a"])
    ]
    assert [process.returncode for process in ended] == [2, 0]
    assert ended[0].stderr == "fleet: tqdm is not installed: pip install -r fleet/requirements.txt\n"


def test_an_error_of_the_fleet_itself_has_a_status_of_its_own(fleet, simulated_host, monkeypatch):
    monkeypatch.setattr(driver.Run, "finish", lambda self: 1 // 0)
    status, said, _ = fleet(simulated.graph(0.0), [{"number": 1}], "--host", simulated_host)
    assert status == 3 and "an error in the fleet itself (ZeroDivisionError" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "w", "t", "--out", "o", "--patience", "nan"], "invalid seconds value: 'nan'"),
        (["run", "w", "t", "--out", "o", "--limit", "0"], "invalid count value: '0'"),
        (["table", "benchmark", "--relation", "inside", "--seeds", "0"], "invalid count value: '0'"),
    ],
)
def test_numbers_that_are_none_are_refused(capsys, words, sentence):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2 and sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("{subject} <R> {objct}", "must contain {object} exactly once"),
        ("{subject} <R> {object} {place}", "has a '{' that nothing fills in"),
    ],
)
def test_a_template_with_braces_that_nothing_fills_in_is_refused(capsys, template, sentence):
    assert main(["table", "benchmark", "--relation", "inside", "--template", template]) == 2
    assert sentence in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(tmp_path, fleet):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "out"
    status, said, _ = fleet(simulated.graph(0.0), [{"number": 1}], "--host", "http://127.0.0.1:1", out=out)
    assert status == 2 and f"{out}: cannot be written" in said


def test_an_odd_manifest_costs_its_odd_lines_only(tmp_path):
    lines = [b"5", b"[]", b'"x"', b"\xff", b"{}", b'{"job": [], "error": null, "outputs": 5}', b"[" * 100_000]
    lines += [b'{"job": "a", "error": null, "outputs": [{"file": 5}]}', b'{"job": "b", "error": null, "outputs": []}']
    (tmp_path / "manifest.jsonl").write_bytes(b"\n".join(lines))
    (tmp_path / "run.txt").write_bytes(b"\xff" * 100)
    with Results(tmp_path) as results:
        assert results.done() == ({"b"}, 8)
        assert len(results.run) == 32
        known = results.run
    with Results(tmp_path) as results:
        assert results.run == known


def test_links_that_run_in_a_circle_are_named(real_host):
    data = canvas()
    reroute = next(node for node in data["nodes"] if node["type"] == "Reroute")
    reroute["inputs"][0]["link"] = 6  # its own
    with pytest.raises(FleetError, match="link 6 of the workflow runs in a circle"):
        workflow.from_canvas(data, real_host.get("object_info"))


@pytest.mark.parametrize("form", ["canvas", "api"])
def test_any_workflow_is_read_or_refused_in_a_sentence(tmp_path, real_host, form):
    schemas, rng, path = real_host.get("object_info"), random.Random(5), tmp_path / "workflow.json"
    whole = {"canvas": canvas(), "api": API}[form]
    refused = 0
    for _ in range(MUTATIONS):
        path.write_text(json.dumps(mutated(rng, whole)))
        try:
            data = workflow.read(path)
            made = workflow.from_canvas(data, schemas) if workflow.is_canvas(data) else workflow.from_api(data)
            jobs.Jobs(made, [{"seed": "7"}]).left_to_the_browser()
        except FleetError:
            refused += 1
    assert 100 < refused < MUTATIONS - 100
    for data in (b"", b"\xff\xfe{", b"[" * 100_000, b"\x00" * 9, '{"4": "é"}'.encode("latin-1")):
        path.write_bytes(data)
        with pytest.raises(FleetError, match="cannot be read as a workflow"):
            workflow.read(path)


def test_any_table_is_read_or_refused_in_a_sentence(tmp_path):
    rng, refused = random.Random(6), 0
    whole = {
        ".csv": b'prompt,seed\r\n"a cat, a dog",1\r\nb,2\r\n',
        ".jsonl": b'{"prompt": "a", "seed": 1}\n{"seed": 2}\n',
    }
    for suffix, data in whole.items():
        path = tmp_path / f"table{suffix}"
        for _ in range(MUTATIONS):
            place = rng.randrange(len(data))
            some = bytes(rng.choice(b'\x00\xff",;\t\r\n{}[]e9aN') for _ in range(rng.randrange(4)))
            path.write_bytes(data[:place] + some + data[place + rng.randrange(3) :])
            try:
                assert all(row and isinstance(row, dict) for row in table_file.read_table(path).rows)
            except FleetError:
                refused += 1
    assert 100 < refused < 2 * MUTATIONS - 100


def test_any_answer_of_a_host_is_read_or_the_hosts_fault():
    entry = {
        "prompt": [0, "p", API, {}, ["9"]],
        "outputs": {"9": {"images": [{"filename": "x.png", "type": "output"}], "text": ["x"]}},
        "status": {
            "status_str": "error",
            "messages": [["execution_cached", {"nodes": ["4"]}], ["execution_error", {}]],
        },
    }
    queue = {"queue_running": [[0, "p", {}, {}, []]], "queue_pending": []}
    refused = {"error": {"message": "m", "details": "d"}, "node_errors": {"4": {"errors": [{}], "class_type": "C"}}}
    schemas = {"C": {"input": {"required": {"name": [["a"]], "other": ["COMBO", {"options": ["a"]}]}}}}
    wanted = [("4", "C", "name", "a"), ("4", "C", "other", "a")]
    readers = [
        ({"p": entry}, lambda answer: answers.history_entry(answer, "p")),
        ({"p": entry}, lambda answer: read_outputs(answers.history_entry(answer, "p"))),
        (queue, answers.queued),
        (refused, answers.refusal),
        (schemas, lambda answer: answers.lacking(answer, ["C"], wanted)),
    ]
    rng, faults = random.Random(7), 0
    for whole, read in readers:
        for _ in range(MUTATIONS):
            try:
                read(mutated(rng, whole))
            except (HostFault, JobFailed):
                faults += 1
    assert faults > 500


def read_outputs(entry):
    if entry:
        for number, file in enumerate(answers.saved_files(entry.outputs)):
            answers.landing_name("0" * 32, number, file.name)
        answers.shown_texts(entry.outputs)
