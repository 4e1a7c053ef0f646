import json

import pytest

from reversion_core.prompts import grid as prompts


def test_grid_is_subject_by_subject_and_keeps_a_word_in_both_places():
    written = prompts.grid("{subject} <R> {object}", ["man", "cat"], ["man", "stone"])
    assert written == ["man <R> man", "man <R> stone", "cat <R> man", "cat <R> stone"]


def test_limit_and_order_seed():
    lists = list("abcdef"), list("uvwxyz")
    everything = prompts.grid("{subject} {object}", *lists)
    shuffled = prompts.grid("{subject} {object}", *lists, order_seed=3)
    assert shuffled != everything and sorted(shuffled) == sorted(everything)
    assert prompts.grid("{subject} {object}", *lists, limit=5, order_seed=3) == shuffled[:5]


def test_a_subject_that_looks_like_a_slot_is_a_word():
    assert prompts.grid("{subject} <R> {object}", ["{object}"], ["stone"]) == ["{object} <R> stone"]


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("cat <R> stone", "cat_R_stone"),
        ('a "T-shirt": <R>/\\|?* x.', "a_T-shirt_R_x"),
        ("con", "con_"),
        ("\u732b <R> \u77f3", "\u732b_R_\u77f3"),
        ("!!", "prompt"),
        ("x" * 300, "x" * 100),
    ],
)
def test_file_names_are_legal_everywhere(prompt, name):
    assert prompts.file_names([prompt]) == [name]


def test_file_names_differ_where_case_does_not_count():
    names = prompts.file_names(["Cat <R> a", "cat <R> a", "cat (R) a"])
    assert len({name.casefold() for name in names}) == 3


def test_own_lists_are_ten_relations_of_a_hundred_prompts():
    relations = prompts.prompt_lists()
    assert len(relations) == 10
    for lists in relations.values():
        written = prompts.grid("{subject} <R> {object}", lists["subjects"], lists["objects"])
        assert len(written) == 100 == len(set(prompts.file_names(written)))


LISTS = {"on": {"subjects": ["cat"], "objects": ["stone", "box"]}}


@pytest.mark.parametrize("content", [LISTS, {"about": "mine", "relations": LISTS}])
def test_lists_are_read_from_a_file(tmp_path, content):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    assert prompts.read_prompt_lists(path) == LISTS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "not a table"),
        ("{}", "not a table"),
        ("not json", "Expecting value, line 1, column 1"),
        ('{"on": 1, "on": 2}', "'on' twice"),
        ('{"on": {"subjects": [" "], "objects": ["a"]}}', "'on' needs a list"),
        ('{"on": {"subjects": ["cat"]}}', "'on' needs a list"),
        ('{"on": {"subjects": ["cat"], "objects": []}}', "'on' needs a list"),
        ('{"on": {"subjects": ["cat"], "objects": [3]}}', "'on' needs a list"),
        ("[" * 100_000, "too deep"),
        (" " * (2**20 + 1), "larger than 1 MB"),
        ('{"on": {"subjects": ["cat"], "objects": ["a\\ud800"]}}', "'on' has a character that no text has"),
        ('{"on\\udc00": {"subjects": ["cat"], "objects": ["a"]}}', "has a character that no text has"),
    ],
)
def test_what_is_no_file_of_lists_is_told(tmp_path, text, said):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        prompts.read_prompt_lists(path)


def test_a_large_grid_with_a_limit_is_not_built_as_a_whole():
    many = [str(i) for i in range(4000)]
    assert prompts.grid("{subject} <R> {object}", many, many, limit=2) == ["0 <R> 0", "0 <R> 1"]
    prompts.grid("{subject} <R> {object}", many[:900], many[:900], limit=2, order_seed=1)


@pytest.mark.parametrize("letter", ["x", "\u732b", "\U00020000", "e\u0301"])
def test_file_names_fit_every_disk_in_bytes(letter):
    (one, other) = prompts.file_names([letter * 300] * 2)
    assert len(f"{other}_00001_.png".encode()) <= 143 and one and one != other and other.endswith("-2")


def test_file_names_of_prompts_that_begin_alike_take_linear_time(monkeypatch):
    looked_at = []
    on_disk = prompts._on_disk
    monkeypatch.setattr(prompts, "_on_disk", lambda name: looked_at.append(name) or on_disk(name))
    names = prompts.file_names(["x" * 150 + str(i) for i in range(1000)])
    assert len(set(names)) == 1000 and len(looked_at) < 6000


@pytest.mark.parametrize(
    ("template", "subjects", "objects", "said"),
    [
        ("{subject} {} {object}", ["cat"], ["stone"], "{} stays in the prompts"),
        ("{subject} {verb} {object}", ["cat"], ["stone"], "{verb} stays in the prompts"),
        ("{subject} <R> {object} {red", ["cat"], ["stone"], "{ stands alone in the template"),
        ("{subject}} <R> {object}", ["cat"], ["stone"], "} stands alone in the template"),
        ("{subject} \uff5bverb\uff5d {object}", ["cat"], ["stone"], "\uff5bverb\uff5d stays in the prompts"),
        ("{subject} %date% {object}", ["cat"], ["stone"], "%date% stays in the prompts"),
        ("cat <R> {object}", ["cat"], ["stone", "wood"], "{subject} is not in the template: 'cat' of subjects"),
        ("{subject} <R> stone", ["cat"], ["stone"], "{object} is not in the template: 'stone' of objects"),
        *(
            ("{subject} <R> {object}", ["cat"], [f"stone{mark}wood"], f"objects: 'stone{mark}wood' is one entry")
            for mark in (",", ";", "|", "\u3001", "\uff0c", "\uff1b")
        ),
        ("{subject} <R> {object}", ["cat, dog", "cow, pig", "hen"], ["stone"], "subjects: 'cat, dog' is one entry"),
        ("{subject} <R> {object}", ["cat", "dog", "cat"], ["stone"], "subjects: cat stands there more than once"),
        ("{subject} <R> {object}", ["cat"], ["stone; wood"], "objects: 'stone; wood' is one entry"),
    ],
)
def test_what_is_likely_meant_otherwise_is_said(template, subjects, objects, said):
    (line,) = prompts.oddities(template, subjects, objects)
    assert line.startswith(said)
    assert not list(prompts.oddities("{subject} <R> {object}, 50% grey", ["cat", "dog", "a red, old cow"], ["stone"]))


@pytest.mark.parametrize(
    "wrong",
    [
        "{Subject}",
        "[subject]",
        "%subject%",
        "% Object %",
        "\uff5bsubject\uff5d",
        "__objects__",
        "$subject",
        "${object}",
    ],
)
def test_what_looks_like_a_slot_is_found(wrong):
    assert prompts.near_slots(f"{wrong} <R> {{object}}") == [wrong]
    assert not prompts.near_slots("{subject} <R> {object} as a subject of art")
