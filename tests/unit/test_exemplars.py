import json

import numpy as np
import pytest
from PIL import Image

from reversion_core.errors import ReVersionError
from reversion_core.exemplars import Exemplars, fit_square, open_picture, read_folder, template


def picture(path, size=(8, 8), colour="red", **options):
    Image.new("RGB", size, colour).save(path, **options)


def test_folder_with_text_json_is_sorted_by_number(tmp_path):
    for i in (10, 2, 1):
        picture(tmp_path / f"{i}.png")
    (tmp_path / "text.json").write_text(json.dumps({f"{i}.png": [f"cat {{}} stone {i}"] for i in (1, 2, 10)}))
    names, pictures, captions = read_folder(tmp_path)
    assert names == ("1.png", "2.png", "10.png")
    assert captions == (("cat {} stone 1",), ("cat {} stone 2",), ("cat {} stone 10",))
    assert pictures[0].shape == (8, 8, 3)


def test_txt_beside_a_picture_is_a_caption_a_line(tmp_path):
    picture(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text("cat {} stone\n\n  dog <R> wall \n")
    assert read_folder(tmp_path)[2] == (("cat {} stone", "dog {} wall"),)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_captions_in_unicode_encodings_are_read(tmp_path, encoding):
    picture(tmp_path / "a.png")
    (tmp_path / "text.json").write_text(json.dumps({"a.png": ["K\u00e4se {} \u77f3"]}, ensure_ascii=False), encoding)
    assert read_folder(tmp_path)[2] == (("K\u00e4se {} \u77f3",),)


def test_captions_in_another_encoding_are_refused(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes("K\u00e4se {} Brot".encode("cp1252"))
    with pytest.raises(ReVersionError, match="'a.txt' is not UTF-8 text; save it as UTF-8"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("captions", "problem"),
    [
        ({"a.png": ["cat stone"]}, "has no {}"),
        ({"a.png": ["cat {} stone {}"]}, "has more than one {}"),
        ({"a.png": ["{}"]}, "is only {}"),
        ({}, "no caption for a.png"),
        ({"a.png": ["cat {} dog"], "b.png": ["cat {} dog"]}, "captions without a picture: b.png"),
        ({"a.png": [3]}, "not a table of captions"),
        (["cat {} dog"], "not a table of captions"),
    ],
)
def test_what_cannot_teach_is_refused(tmp_path, captions, problem):
    picture(tmp_path / "a.png")
    (tmp_path / "text.json").write_text(json.dumps(captions))
    with pytest.raises(ReVersionError, match=problem):
        read_folder(tmp_path)


def test_broken_json_names_the_line(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "text.json").write_text('{"a.png": ["cat {} dog"],\n oops}')
    with pytest.raises(ReVersionError, match="line 2"):
        read_folder(tmp_path)


def test_caption_text_without_its_picture_is_named(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("cat {} dog")
    (tmp_path / "b.txt").write_text("cat {} dog")
    with pytest.raises(ReVersionError, match=r"captions without a picture: b\.txt"):
        read_folder(tmp_path)


def test_empty_folder_and_broken_picture_are_refused(tmp_path):
    with pytest.raises(ReVersionError, match="has no pictures"):
        read_folder(tmp_path)
    (tmp_path / "a.png").write_bytes(b"not a picture")
    (tmp_path / "a.txt").write_text("cat {} dog")
    with pytest.raises(ReVersionError, match=r"'a\.png' cannot be read"):
        read_folder(tmp_path)


def test_exif_turns_the_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    picture(tmp_path / "a.jpg", (20, 10), exif=exif)
    assert open_picture(tmp_path / "a.jpg").shape == (20, 10, 3)


def test_transparency_lies_over_white(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert (open_picture(tmp_path / "a.png") == 255).all()


def test_fitting_never_squashes():
    tall = np.zeros((40, 20, 3), np.uint8)
    tall[10:30] = 200  # a square in the middle
    assert (fit_square(tall, 16, "crop") > 150).all()
    padded = fit_square(tall, 16, "pad")
    assert (padded[:, :3] == 255).all() and (padded[:, -3:] == 255).all() and (padded[7:9, 6:10] == 200).all()


def test_training_size_is_the_model_s_but_never_an_enlargement():
    small = (np.zeros((70, 100, 3), np.uint8),)
    assert Exemplars(("a",), small, (("b {} c",),)).training_size(512) == 64
    assert Exemplars(("a",), small, (("b {} c",),), size=128).training_size(512) == 128
    large = (np.zeros((700, 900, 3), np.uint8),)
    assert Exemplars(("a",), large, (("b {} c",),)).training_size(512) == 512


def test_the_placeholder_is_a_slot_too():
    assert template(" cat  <R> stone ", "node", "input") == "cat {} stone"
