"""Folders of exemplars as people have them: which files count, captions of every form, names, encodings."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from reversion_core.errors import ReVersionError
from reversion_core.exemplars import read_folder

CAT, DOG = "cat {} stone", "dog {} wood"


def picture(path, size=(8, 8), **options):
    Image.new("RGB", size, "red").save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Two pictures, 0.png and 1.png."""
    for name in ("0.png", "1.png"):
        picture(tmp_path / name)
    return tmp_path


def refusal(folder, **options):
    with pytest.raises(ReVersionError) as caught:
        read_folder(folder, **options)
    return str(caught.value)


def test_pictures_are_sorted_by_number(tmp_path):
    for name in ("10.png", "2.png", "1.png", "\u00b2.png"):
        picture(tmp_path / name)
    (tmp_path / "text.json").write_text(json.dumps({n: [CAT] for n in ("1.png", "2.png", "10.png", "\u00b2.png")}))
    found = read_folder(tmp_path)
    assert found.names == ("1.png", "2.png", "10.png", "\u00b2.png") and found.pictures[0].shape == (8, 8, 3)


def lines(*values):
    return "\n".join(json.dumps(value) for value in values)


FORMS = {
    "text.json": {"text.json": json.dumps({"0.png": [CAT], "1.png": [DOG]})},
    "one caption without its list": {"text.json": json.dumps({"0.png": CAT, "1.png": DOG})},
    "a txt beside each": {"0.txt": f"\n {CAT} \n", "1.txt": DOG.replace("{}", "<R>")},
    "a caption file beside each": {"0.caption": CAT, "1.caption": DOG},
    "with both suffixes": {"0.png.txt": CAT, "1.PNG.TXT": DOG},
    "kohya": {"meta_cap.json": json.dumps({"C:\\set\\0": {"caption": CAT}, "set/1": {"caption": DOG}})},
    "a list": {"captions.json": json.dumps([{"image": "0.png", "caption": CAT}, {"image": "1.png", "caption": DOG}])},
    "Hugging Face": {"metadata.jsonl": lines({"file_name": "0.png", "text": CAT}, {"file_name": "1.png", "text": DOG})},
    "csv": {"metadata.csv": f"file_name,text\n0.png,{CAT}\n1.png,{DOG}\n"},
    "csv with ;": {"captions.csv": f"Text;File\r\n{CAT};0.png\r\n{DOG};1.png\r\n"},
    "csv with commas in captions": {"captions.csv": f"file,text\n0.png,{CAT}\n1.png,dog {{}} wood\n"},
    "tsv": {"captions.tsv": f"image\tcaption\n0.png\t{CAT}\n1.png\t{DOG}"},
    "a line a picture": {"captions.txt": f"{CAT}\n{DOG}\n"},
    "names before the lines": {"anything.txt": f"1.png: {DOG}\n0.png: {CAT}\n"},
    "names before the lines, other marks": {"anything.txt": f"sub/1.png = {DOG}\n0.png\uff1a{CAT}\n"},
    "Hugging Face with U+2028": {
        "metadata.jsonl": lines(
            {"file_name": "0.png", "Text": CAT}, {"FILE_NAME": "1.png", "text": "dog\u2028{} wood"}
        ).replace("\\u2028", "\u2028"),
    },
    "csv with spaces": {"metadata.csv": f'file_name, text\n0.png, "{CAT}"\n1.png, {DOG}\n'},
    "a table before texts": {"text.json": json.dumps({"0": CAT, "1": DOG}), "0.txt": "ignored", "1.txt": "ignored"},
    "names as people see them": {"Text.JSON": json.dumps({"0.PNG": CAT, "\u200b1.png\u00a0": DOG})},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_captions_of_every_form_and_unicode_encoding(folder, form, encoding):
    for name, text in FORMS[form].items():
        (folder / name).write_bytes(text.replace("cat", "K\u00e4tzchen").encode(encoding))
    assert read_folder(folder).captions == ((CAT.replace("cat", "K\u00e4tzchen"),), (DOG,))


@pytest.mark.parametrize(
    ("on_disk", "written"),
    [
        ("\u00e9.png", "e\u0301.png"),
        ("e\u0301.png", "\u00c9.PNG"),
        ("\uff21.png", "a.png"),
        ("STRASSE.png", "stra\u00dfe.png"),
        ("a b.png", "a\u00a0b.png"),
        ("a\u200bb.png", "ab.png"),
    ],
)
def test_names_are_compared_as_people_see_them(tmp_path, on_disk, written):
    picture(tmp_path / on_disk)
    (tmp_path / "text.json").write_text(json.dumps({written: CAT}))
    assert read_folder(tmp_path).captions == ((CAT,),)
    (tmp_path / "text.json").unlink()
    (tmp_path / f"{written.rsplit('.', 1)[0]}.txt").write_text(CAT)
    assert read_folder(tmp_path).captions == ((CAT,),)


def test_an_exact_name_comes_before_one_that_looks_like_it(tmp_path):
    for name in ("a.png", "A.png"):
        picture(tmp_path / name)
    if len(os.listdir(tmp_path)) < 2:
        pytest.skip("this disk takes both for one")
    (tmp_path / "text.json").write_text(json.dumps({"a.png": CAT, "A.png": DOG}))
    found = read_folder(tmp_path)
    assert dict(zip(found.names, found.captions, strict=True)) == {"a.png": (CAT,), "A.png": (DOG,)}


TABLES = {
    "text.json": [
        ('{"0.png": ["cat {} dog"],\n oops}', "Expecting property name enclosed in double quotes, line 2, column 2"),
        ("", "not valid JSON"),
        ("[" * 100_000, "nested too deep"),
        ('{"a": ' + "1" * 5000 + "}", "a number in it is too long"),
        ('{"0.png": "cat {} a", "0.png": "cat {} b"}', "'0.png' twice"),
        ("[]", "not a table of captions"),
        ('{"0.png": []}', "not a table of captions"),
        ('{"0.png": [3]}', "not a table of captions"),
        ("3", "not a table of captions"),
        ("{}", "no caption for 0.png, 1.png; add it to text.json"),
        ('{"0.png": "cat {} a"}', "no caption for 1.png; add it to text.json"),
        ('{"0.jpg": "cat {} a", "1.png": "cat {} a"}', "text.json speaks of 0.jpg; the pictures are 0.png, 1.png"),
        ('{"0": "cat {} a", "1": "cat {} b", "2": "cat {} c"}', "text.json has captions without a picture: 2"),
        ('{"0": "cat stone", "1": "cat {} b"}', "the caption 'cat stone' of 0.png has no {}"),
        ('{"0": "cat {} stone {}", "1": "cat {} b"}', "has more than one {}"),
        ('{"0": "{}", "1": "cat {} b"}', "is only {}"),
        (
            '{"a/0.png": "cat {} a", "b/0.png": "cat {} b", "1": "c {} d"}',
            "of 0.png under two names, a/0.png and b/0.png",
        ),
        ('{"0.png": "cat {} a", "0": "cat {} b", "1": "c {} d"}', "of 0.png under two names, 0.png and 0"),
        (
            '{"0": {"text": "a {} b", "caption": "c {} d"}, "1": "c {} d"}',
            "more than one name for the same: text, caption",
        ),
    ],
    "metadata.jsonl": [
        ('{"file_name": "0.png", "text": "a {}"}\n\n{"file_name"', "line 3, column 13"),
        ('{"text": "a {}"}', "not a table of captions"),
        (
            '{"file_name": "0.png", "text": "a {} b", "prompt": "c {} d"}',
            "more than one name for the same: text, prompt",
        ),
        (
            '{"file_name": "0.png", "image": "1.png", "text": "a {} b"}',
            "more than one name for the same: file_name, image",
        ),
        ("", "not a table of captions"),
    ],
    "metadata.csv": [
        ("text,file\ncat {} a, at night,0.png\n", "(it has 3 columns in line 2 and 2 in its header); put captions"),
        ("file_name,text,caption\n", "more than one column for the same: text, caption"),
        ("0.png,cat {} a\n1.png,cat {} b\n", "its first line does not name the columns); begin it with file_name,text"),
        ("", "its first line does not name the columns"),
        ('file_name,text\n0.png,"cat" {} stone\n', "it is not a table: ',' expected after '\"', line 2"),
        ('file_name,text\n0.png,"cat {} stone\n', "it is not a table: unexpected end of data, line 2"),
        ("file_name,text\n\n0.png," + "a" * 200_000, "field larger than field limit"),
    ],
}


@pytest.mark.parametrize(("name", "text", "said"), [(name, *case) for name, cases in TABLES.items() for case in cases])
def test_a_table_that_cannot_be_read_is_named_with_the_reason(folder, name, text, said):
    (folder / name).write_text(text)
    message = refusal(folder)
    assert said in message and (name in message or "of 0.png" in message)


@pytest.mark.parametrize("name", ["0.txt", "text.json", "captions.csv", "all.txt"])
@pytest.mark.parametrize(
    "data", ["K\u00e4se {}".encode("cp1252"), "\u732b {}".encode("shift-jis"), b"cat {}\0\0", b"\xff\xfe\xd8"]
)
def test_captions_in_another_encoding_are_named(folder, name, data):
    (folder / name).write_bytes(data)
    assert f"'{name}' cannot be read (it is not UTF-8 text" in refusal(folder) and "save it as UTF-8" in refusal(folder)


def test_texts_that_belong_to_no_picture_are_named_or_said(folder):
    (folder / "0.txt").write_text(CAT)
    (folder / "1.txt").write_text(DOG)
    (folder / "README.txt").write_text("made in May")
    (folder / "clip.mp4").touch()
    assert read_folder(folder).notes == ("not read: clip.mp4, README.txt",)
    (folder / "2.txt").write_text(CAT)
    assert "captions without a picture: 2.txt" in refusal(folder)


@pytest.mark.parametrize("first", ["0.txt", "0.caption"])
def test_two_texts_for_one_picture_are_refused(folder, first):
    second = first.replace("0.", "0.png.")
    (folder / first).write_text(CAT)
    (folder / second).write_text(DOG)
    assert f"{second} and {first} are both captions of 0.png" in refusal(folder) or (
        f"{first} and {second} are both captions of 0.png; keep one of them" in refusal(folder)
    )


@pytest.mark.parametrize("name", ["0.txt", "all.txt"])
@pytest.mark.parametrize(
    "text", [json.dumps({"0": CAT, "1": DOG}), lines({"file": "0.png", "text": CAT}, {"file": "1"})]
)
def test_json_among_lines_is_refused(folder, name, text):
    (folder / name).write_text(text)
    assert f"'{name}' holds JSON; call it text.json" in refusal(folder)
    assert "the captions box holds JSON; write a caption a line" in refusal(folder, lines=text)


def test_lines_with_names_of_other_pictures_are_refused(folder):
    (folder / "all.txt").write_text(f"0.png: {CAT}\n2.png: {DOG}")
    assert "in all.txt line 2 begins with '2.png', and the pictures are 0.png, 1.png" in refusal(folder)


def test_what_a_table_leaves_unread_is_said(folder):
    (folder / "captions.csv").write_text(f"file,text\n\n0.png,{CAT}\n,\n1.png,{DOG}\n")
    (folder / "0.txt").write_text(DOG)
    assert read_folder(folder).notes == (
        "captions.csv has 2 empty rows; they are left out",
        "not read: 0.txt; the captions are those of captions.csv",
    )


def test_captions_from_the_node_come_before_those_of_the_folder(folder):
    (folder / "text.json").write_text("broken")
    found = read_folder(folder, lines=f"{CAT}\n\n{DOG}\n")
    assert found.captions == ((CAT,), (DOG,))
    assert found.notes == ("not read: text.json; the captions are those of the captions box",)
    assert "in the captions box there are 2 pictures and 3 captions" in refusal(folder, lines="{} a\n{} b\n{} c")


LEFT = ["._0.jpg", ".DS_Store", "Thumbs.db", "desktop.ini", ".hidden.png", "~$0.png", "0.png:Zone.Identifier"]


@pytest.mark.parametrize("name", LEFT)
def test_what_systems_leave_behind_is_not_read(folder, name):
    for each in ("__MACOSX", ".ipynb_checkpoints", "@eaDir", name):
        (folder / each).mkdir() if each.startswith(("__", ".ipy", "@")) else (folder / each).write_bytes(b"\0\5\x16\7")
    assert read_folder(folder, lines=CAT).names == ("0.png", "1.png") and not read_folder(folder, lines=CAT).notes


def broken_link(path):
    path.symlink_to(path.with_name("nowhere.png"))


def loop(path):
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.mkdir(), "(it is a folder); rename it or take it out"),
        (lambda path: os.mkfifo(path), "(it is no ordinary file)"),
        (broken_link, "(it is a link to nothing)"),
        (loop, "cannot be read"),
        (lambda path: path.touch(), "(it is an empty file)"),
        (lambda path: path.write_bytes(b"<!DOCTYPE html><html>"), "(it is a web page); download the file itself"),
        (
            lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"),
            "(it is a pointer of Git LFS)",
        ),
        (lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "PostScript"),
        (lambda path: path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), "HEIC"),
        (lambda path: path.write_bytes(b"garbage"), "(it is no picture that can be read)"),
    ],
    ids=range(10),
)
@pytest.mark.parametrize("name", ["2.png", "2.heic"])
def test_what_is_no_picture_is_named_with_its_cure(folder, make, said, name):
    make(folder / name)
    assert f"the picture '{name}' cannot be read" in refusal(folder, lines=CAT) and said in refusal(folder, lines=CAT)


@pytest.mark.parametrize("name", ["0.txt", "text.json", "all.txt"])
def test_a_pipe_in_place_of_captions_is_never_opened(folder, name):
    os.mkfifo(folder / name)
    assert f"'{name}' cannot be read (it is no ordinary file)" in refusal(folder)


def test_what_may_not_be_read_is_a_sentence(folder, monkeypatch):
    def forbidden(path, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr("os.open", forbidden)
        assert "the picture '0.png' cannot be read (it may not be read)" in refusal(folder, lines=CAT)
    monkeypatch.setattr("os.listdir", forbidden)
    assert f"the folder '{folder}' cannot be read (Permission denied)" in refusal(folder)


@pytest.mark.parametrize("name", ["a.cr2", "a.svg", "a.jxl"])
def test_pictures_of_other_programs_are_named(folder, name):
    (folder / name).touch()
    assert f"{name} cannot be read as a picture; save it as PNG" in refusal(folder, lines=CAT)


def test_a_folder_without_pictures_says_what_is_there(tmp_path):
    assert "has no pictures; put 4 to 10" in refusal(tmp_path)
    (tmp_path / "10_cat").mkdir()
    assert "has no pictures, only 10_cat; put 4 to 10" in refusal(tmp_path)


def test_names_that_are_no_text_do_not_break_the_report(tmp_path):
    name = os.fsdecode(b"a\xff\x1b[31m.png")
    try:
        picture(tmp_path / name)
    except OSError:
        pytest.skip("this disk takes no such names")
    found = read_folder(tmp_path, lines=CAT)
    assert found.names == ("a??[31m.png",)


def test_many_pictures_and_captions_take_linear_time(tmp_path, monkeypatch):
    monkeypatch.setattr("reversion_core.exemplars.folder.open_picture", lambda path, say: np.zeros((1, 1, 3), np.uint8))
    compared = []
    monkeypatch.setattr(
        "reversion_core.exemplars.captions.as_seen", lambda name: compared.append(name) or name.casefold()
    )
    for i in range(300):
        (tmp_path / f"{i}.png").touch()
        (tmp_path / f"{i}.txt").write_text(CAT)
    assert len(read_folder(tmp_path).captions) == 300
    assert len(compared) < 300 * 8
