"""Tables as spreadsheets and scripts write them."""

import pytest
from running import drawing

from fleet import ready_tables
from fleet.errors import FleetError
from fleet.jobs import Jobs
from fleet.table_file import read_table
from fleet.workflow import from_api

TWO = [{"prompt": "a cat, ü", "seed": "1"}, {"prompt": "b", "seed": "2"}]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("comma.csv", 'prompt,seed\n"a cat, ü",1\nb,2\n'.encode()),
        ("semicolon.csv", "prompt;seed\r\na cat, ü;1\r\nb;2\r\n".encode()),
        ("tab.csv", "prompt\tseed\na cat, ü\t1\nb\t2".encode()),
        ("tab.tsv", "prompt\tseed\na cat, ü\t1\nb\t2".encode()),
        ("said.csv", "sep=|\nprompt|seed\na cat, ü|1\nb|2\n".encode()),
        ("mark.csv", 'prompt,seed\n"a cat, ü",1\nb,2\n'.encode("utf-8-sig")),
        ("wide.csv", "prompt\tseed\r\na cat, ü\t1\r\nb\t2\r\n".encode("utf-16")),
        ("wide-without-mark.csv", "prompt\tseed\r\na cat, ü\t1\r\nb\t2\r\n".encode("utf-16-le")),
        ("mac.csv", 'prompt,seed\r"a cat, ü",1\rb,2\r'.encode()),
        ("spaces.csv", '\n prompt , seed\n"a cat, ü",1\nb,2\n\n,\n'.encode()),
        ("empty-columns.csv", 'prompt,seed,,\n"a cat, ü",1,,\nb,2,,\n'.encode()),
    ],
)
def test_a_table_is_read_however_it_is_divided_and_encoded(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    table = read_table(tmp_path / name)
    assert table.rows == TWO and table.numbers == [1, 2] and table.note is None


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a.csv", b"seed,prompt,seed\n1,a,2\n", "column 'seed' is there twice"),
        ("a.csv", b"seed,,prompt\n1,x,a\n", "column 2 has no name in the first line"),
        (
            "a.csv",
            b"prompt\na cat, a dog\n",
            "row 1 has 2 values for 1 columns; a text with ',' in it belongs in quotes",
        ),
        ("a.csv", b"prompt,seed\na,1\nb\n", "row 2 has 1 values for 2 columns"),
        ("a.csv", b'prompt,seed\n"a,1\nb,2\n', "unexpected end of data"),
        ("a.csv", "prompt,seed\na,1\nü,2\n".encode("cp1252"), "it is not UTF-8 text, see line 3; save it as UTF-8"),
        ("a.csv", b"prompt,seed\na\0b,1\n", "it is not UTF-8 text; save it as UTF-8"),
        ("a.csv", b"", "the table has no rows"),
        ("a.csv", b"prompt,seed\n", "the table has no rows"),
        ("a.xlsx", b"PK", "a table is a .csv, .tsv or .jsonl file"),
        ("a.jsonl", b'{"seed": 1, "seed": 2}\n', "line 1: it has 'seed' twice"),
        ("a.jsonl", b'{"seed": 1}\n{"seed": NaN}\n', "line 2, column 'seed': nan is not a text, a number"),
        ("a.jsonl", b'{"seed": 1e999}\n', "line 1, column 'seed': inf is not a text, a number, true or false"),
        ("a.jsonl", b'{"prompt": ["4", 0]}\n', "line 1, column 'prompt': ['4', 0] is not a text"),
        ("a.jsonl", b"5\n", "line 1 is not an object"),
        ("a.jsonl", b"[" * 100_000, "line 1: "),
    ],
)
def test_a_table_that_is_not_clear_is_refused_in_a_sentence(tmp_path, name, data, sentence):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(FleetError) as caught:
        read_table(tmp_path / name)
    assert f"{name}: " in str(caught.value) and sentence in str(caught.value)


def test_empty_rows_are_left_out_and_said_and_the_others_keep_their_numbers(tmp_path):
    (tmp_path / "a.csv").write_text("prompt,seed\na,1\n,\n\nb,x\n")
    table = read_table(tmp_path / "a.csv")
    assert table.numbers == [1, 4] and table.note.endswith("a.csv: empty rows are left out: 2, 3")
    with pytest.raises(FleetError, match="row 4, column 'seed': 'x' is not a value like 3"):
        Jobs(from_api(drawing()), table.rows, table.numbers)


def test_what_only_the_browser_fills_in_is_said():
    rows = [{"prompt": "a {red|blue} cat", "SaveImage.filename_prefix": "%date:yyyy%/x"}, {"prompt": r"a \{cat\}"}]
    said = Jobs(from_api(drawing()), rows).left_to_the_browser()
    assert "column 'prompt': '{red|blue}' is sent as it stands (in 1 of 2 texts)" in said
    assert any("'%date:yyyy%' is sent as it stands" in sentence for sentence in said) and len(said) == 2


@pytest.mark.parametrize("value", ["nan", "inf", "1_0", "", "0x10", "7,5"])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(FleetError, match="row 1, column 'seed': .* is not a value like 3"):
        Jobs(from_api(drawing()), [{"seed": value}])


def test_whole_numbers_are_read_exactly_and_as_spreadsheets_write_them():
    made = [Jobs(from_api(drawing()), [{"seed": value}]) for value in ("18446744073709551615", "7.0", " 7 ")]
    assert [jobs.graph(0)["cat-sample"]["inputs"]["seed"] for jobs in made] == [2**64 - 1, 7, 7]


@pytest.mark.parametrize(
    ("folders", "relations"),
    [
        (["carved", "painted on"], ["carved", "painted-on"]),
        (["\u96d5\u523b", "\u753b", "a\u753b"], ["relation", "relation-2", "a"]),
        (["a b", "a-b", "A_b"], ["a-b", "a-b-2", "A_b"]),
        (["001", "con", "x" * 150, "x" * 140], ["relation-001", "relation-con", "x" * 80, "x" * 80 + "-2"]),
    ],
)
def test_every_folder_gets_a_relation_that_can_be_saved(folders, relations):
    assert ready_tables.folders(folders) == [
        {"folder": folder, "name": relation} for folder, relation in zip(folders, relations, strict=True)
    ]
    for relation in relations:
        assert ready_tables.checked_name(relation, "Save", "name") == relation
    with pytest.raises(FleetError, match="the same name"):
        ready_tables.folders([folders[0], f"elsewhere/{folders[0]}"])


def test_folders_are_called_as_the_hosts_call_them(tmp_path):
    (tmp_path / "library" / "rel_inside_v003").mkdir(parents=True)
    (tmp_path / "input" / "set" / "one").mkdir(parents=True)
    (tmp_path / "input" / "inside").symlink_to(tmp_path / "library" / "rel_inside_v003")
    given = [str(tmp_path / "input" / "inside"), str(tmp_path / "input" / "set" / "one")]
    assert ready_tables.folders(given) == [
        {"folder": "inside", "name": "inside"},
        {"folder": "set/one", "name": "set-one"},
    ]
