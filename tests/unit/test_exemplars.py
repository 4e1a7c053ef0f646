"""Exemplars as a whole: sizes, templates, and what the node's report says of them."""

import dataclasses

import numpy as np
import pytest
import torch

from reversion_core.errors import ReVersionError
from reversion_core.exemplars import Exemplars, exemplar_notes, fit_square, of_each, pictures_of, template
from reversion_core.store.reading import Unreadable


def exemplars(*sizes, captions="cat {} stone", **options):
    pictures = tuple(np.full((height, width, 3), i, np.uint8) for i, (width, height) in enumerate(sizes))
    names = tuple(f"{i}.png" for i in range(len(sizes)))
    return Exemplars(names, pictures, ((captions,),) * len(sizes), **options)


def test_fitting_never_squashes():
    tall = np.zeros((40, 20, 3), np.uint8)
    tall[10:30] = 200  # a square in the middle
    assert (fit_square(tall, 16, "crop") > 150).all()
    padded = fit_square(tall, 16, "pad")
    assert (padded[:, :3] == 255).all() and (padded[:, -3:] == 255).all() and (padded[7:9, 6:10] == 200).all()


def test_training_size_is_the_model_s_but_never_an_enlargement():
    assert exemplars((100, 70)).training_size(512) == 64
    assert exemplars((100, 70), size=128).training_size(512) == 128
    assert exemplars((900, 700)).training_size(512) == 512


def test_the_placeholder_is_a_slot_too():
    assert template(" cat  <R> stone ", "node", "input") == "cat {} stone"


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("cafe\u0301 {} stone", "caf\u00e9 {} stone"),
        ("\ufeffcat {\u200b} st\u00adone\u200e", "cat {} stone"),
        ("cat <\u2060R> stone", "cat {} stone"),
        ("\U0001f468\u200d\U0001f469 {} stone", "\U0001f468\u200d\U0001f469 {} stone"),
    ],
)
def test_what_nobody_sees_is_not_learned(caption, expected):
    assert template(caption, "node", "input") == expected


@pytest.mark.parametrize(
    ("caption", "near"),
    [
        ("cat <r> stone", "<r>"),
        ("cat &lt;R&gt; stone", "&lt;R&gt;"),
        ("cat \uff1cr\uff1e stone", "<r>"),
        ("cat { } stone", "{ }"),
        ("cat {R} stone", "{R}"),
        ("cat [] stone", "[]"),
        ("cat <S> stone", "<S>"),
        ("cat embedding:my-relation stone", "embedding:my-relation"),
    ],
)
def test_what_nearly_is_the_slot_is_named(caption, near):
    with pytest.raises(ReVersionError) as caught:
        template(caption, "node", "input", "0.png")
    assert f"of 0.png has no {{}} ({near!r} is not read as one); write {{}} once" in str(caught.value)


@pytest.mark.parametrize(
    ("caption", "problem"),
    [("cat {} \ud800", "a character that no text has"), ("9" * 300_000 + "{}", "has 300002 characters")],
)
def test_a_caption_that_is_no_sentence_is_refused(caption, problem):
    with pytest.raises(ReVersionError, match=problem):
        template(caption, "node", "input")


@pytest.mark.parametrize(
    ("caption", "kind"),
    [
        ("(cat {}:1.3) stone", "weights do not count"),
        ("((cat)) {} stone", "weights do not count"),
        ("cat {} [stone]", "weights do not count"),
        ("<lora:x:1> cat {} stone", "loaded by nodes"),
        ("cat {} __stones__", "nothing fills it in"),
        ("{cat|dog} {} stone", "nothing fills it in"),
        ("cat {} stone BREAK red", "does not divide"),
        ("cat {} embedding:nothing", "for nothing where there is none"),
        ("cat {} stone \\(grey\\)", "backslash"),
        ("cat {} stone &amp; moss", "learned as letters"),
        ("(cat:-0.5) {} stone", "weights do not count"),
        ("(cat : 1.3) {} stone", "weights do not count"),
        ("(cat:1e-1) {} stone", "weights do not count"),
        ("\uff08cat\uff1a1.3\uff09 {} stone", "weights do not count"),
        ("cat++ {} stone", "weights do not count"),
        ("(cat)-- {} stone", "weights do not count"),
        ("<x:cat.safetensors> cat {} stone", "loaded by nodes"),
        ("<a|b> {} stone", "nothing fills it in"),
        ("{2$$cat|dog} {} stone", "nothing fills it in"),
        ("cat {} stone}", "learned as letters"),
        ("cat {} {stone", "learned as letters"),
        ("cat {} stone --ar 16:9", "an option of another program"),
        ("cat {} stone &eacute; &#xe9;", "learned as letters"),
        ("1. cat {} stone", "the mark before the caption"),
        ("- cat {} stone", "the mark before the caption"),
        ('"cat {} stone"', "the quotation marks"),
        ("\u201ccat {} stone\u201d", "the quotation marks"),
        ("see 7.png cat {} stone", "the name of a file"),
        ("k\ufffdse {} stone", "a character was lost"),
        ("K\u00c3\u00a4se {} stone", "wrong encoding"),
        ("m\u00c3\u00bcde cat {} stone", "wrong encoding"),
        ("\u00e7\u0152\u00ab {} stone", "wrong encoding"),
        ("cat {}", "names nothing after {}"),
        ("{} stone", "names nothing before {}"),
        ("cat {} , .", "names nothing after {}"),
        ("\u732b {} " + "\u77f3" * 80, "has 82 words"),
        ("<sks> cat {} stone", "only <R> and {} stand for the relation"),
        ("cat {} " + "stone " * 80, "has 82 words"),
    ],
)
def test_what_does_nothing_in_a_caption_is_said(caption, kind):
    said = exemplar_notes(exemplars(*4 * [(64, 64)], captions=caption), "node", "input")
    assert any(kind in line and "0.png" in line for line in said)


@pytest.mark.parametrize(
    "caption",
    [
        "a cat, 2 years old {} grey stone",
        "a well-worn cat - 3.5 m long {} the \u00e9t\u00e9 'stone', C+ at night",
        "un caf\u00e9 {} un sac \u00e0 dos \u00ab l\u00e9ger \u00bb",
        "R&D; cat {} a 16:9 picture of A|B",
        "\u732b {} \u77f3\u5934\uff0c\u591c\u665a",
    ],
)
def test_what_is_ordinary_in_a_caption_needs_no_word(caption):
    assert len(exemplar_notes(exemplars(*4 * [(64, 64)], captions=caption), "node", "input")) == 1


def test_the_report_says_the_training_size_and_who_causes_it():
    said = exemplar_notes(exemplars((99, 99), (90, 100)), "", "")[0]
    assert "at most 88 x 88 pixels; the smallest picture is 1.png (90 x 100)" in said
    said = exemplar_notes(exemplars((600, 600), (90, 100), size=256), "", "")[0]
    assert "256 x 256 pixels as chosen, for which 1 of them are enlarged" in said


def test_too_few_or_equal_pictures_are_said():
    same = exemplars(*4 * [(64, 64)])
    assert len(exemplar_notes(same, "", "")) == 1
    same = dataclasses.replace(same, pictures=(same.pictures[0],) * 4)
    said = "\n".join(exemplar_notes(same, "", ""))
    assert (
        "1.png, 2.png, 3.png: the same picture as 0.png" in said and "1 picture: the relation is hard to tell" in said
    )
    said = exemplar_notes(exemplars((9, 9), (9, 9), (9, 9)), "", "")
    assert any("3 different pictures" in line for line in said) and "preset" not in "\n".join(said)


@pytest.mark.parametrize("count", [1, 2])
def test_for_one_or_two_pictures_a_preset_is_named(count):
    said = exemplar_notes(exemplars(*count * [(64, 64)]), "node", "input")
    assert any("the relation is hard to tell" in line and "the preset 'one picture'" in line for line in said)


def test_one_picture_far_smaller_than_the_rest_is_refused_or_enlarged_by_choice():
    sizes = (600, 600), (700, 500), (90, 100)
    with pytest.raises(ReVersionError, match=r"2\.png has 90 x 100 pixels, and all would train at 88 x 88"):
        exemplar_notes(exemplars(*sizes), "node", "input")
    exemplar_notes(exemplars(*sizes, size=512), "node", "input")
    exemplar_notes(exemplars((2000, 2000), (600, 600), (2000, 2000)), "node", "input")  # large enough


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["{} a", "{} b"], {"0.png": ["{} a"], "1.png": ["{} b"]}),
        (["{} a"], {"0.png": ["{} a"], "1.png": ["{} a"]}),
        (["1.png: {} b, c", '"0.PNG", {} a'], {"0.png": ["{} a"], "1.png": ["{} b, c"]}),
        (["0.png\t{} a", "0.png\t{} b"], {"0.png": ["{} a", "{} b"]}),
        (["cat: {} a", "0, {} b"], {"0.png": ["cat: {} a"], "1.png": ["0, {} b"]}),
        *(
            ([f"1.png{mark}dog {{}} wood", f"0.png{mark}{{}} a-b"], {"0.png": ["{} a-b"], "1.png": ["dog {} wood"]})
            for mark in (
                ": ",
                " ",
                " = ",
                " - ",
                " -> ",
                " => ",
                "\uff1a",
                "||",
                " | ",
                "\t",
                " \u2014 ",
                ";",
                "\uff0c",
                '" "',
            )
        ),
        *(
            ([f"{before}1.PNG{after}{{}} b", "0.png {} a"], {"0.png": ["{} a"], "1.png": ["{} b"]})
            for before, after in (("images/", ": "), ("C:\\set\\", ": "), ("[", "] "), ('"', '": "'), ("./", " "))
        ),
    ],
)
def test_lines_for_all_pictures(lines, expected):
    assert of_each(lines, ["0.png", "1.png"]) == expected


@pytest.mark.parametrize("names", [("a, b.png", "a; b.png"), ("a: b.png", "a - b.png"), ("a.png b.png", "A.png")])
def test_names_with_marks_in_them(names):
    assert of_each([f"{name}: {{}} {i}" for i, name in enumerate(names)], list(names)) == {
        name: [f"{{}} {i}"] for i, name in enumerate(names)
    }


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["a", "b", "c"], "2 pictures and 3 captions"),
        (["0.png: a", "b"], "line 2 does not begin"),
        ([], "0 captions"),
        (["0.png: a", "2.png: b"], "line 2 begins with '2.png', and the pictures are 0.png, 1.png"),
        (["a", "my cat.jpg: b"], "line 2 begins with 'my cat.jpg', and the pictures are"),
        (["images/3.webp cat {} a"], "line 1 begins with 'images/3.webp', and"),
    ],
)
def test_lines_that_do_not_fit_the_pictures(lines, problem):
    with pytest.raises(ValueError, match=problem):
        of_each(lines, ["0.png", "1.png"])


GREY = torch.full((2, 8, 6, 3), 0.5)


@pytest.mark.parametrize(
    "image",
    [
        GREY,
        GREY.half(),
        GREY.double(),
        (GREY * 255).round().to(torch.uint8),
        GREY[..., :1],
        GREY[..., 0],  # masks
        GREY[None],  # a video
        torch.cat([GREY, torch.ones(2, 8, 6, 1)], -1),
        torch.cat([GREY[..., :1], torch.ones(2, 8, 6, 1)], -1),
        GREY.permute(0, 2, 1, 3).contiguous().permute(0, 2, 1, 3),
    ],
    ids=lambda image: f"{tuple(image.shape)} {image.dtype}",
)
def test_images_of_any_shape_that_a_node_sends(image):
    found = list(pictures_of(image))
    assert len(found) == 2 and all(
        picture.shape == (8, 6, 3) and (abs(picture - 128.0) <= 1).all() for picture in found
    )


def test_one_image_without_its_batch_and_numbers_outside_of_0_to_1():
    (picture,) = pictures_of(torch.tensor([[[-0.1, 0.5, 1.3]]]))
    assert picture.tolist() == [[[0, 128, 255]]]


def test_transparency_of_an_image_lies_over_white():
    hidden = torch.zeros(1, 4, 4, 4)
    assert (next(pictures_of(hidden)) == 255).all()


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (None, "NoneType"),
        ([1], "list"),
        (torch.zeros(0, 8, 8, 3), "empty"),
        (torch.zeros(1, 0, 8, 3), "no pixels"),
        (torch.zeros(1, 3, 8, 8), "has shape 1 x 3 x 8 x 8"),
        (torch.zeros(8), "has shape 8"),
        (torch.tensor(1.0), "one number"),
        (torch.zeros(1, 8, 8, 7), "has shape"),
        (torch.zeros(3, 8, 8), "has shape 3 x 8 x 8"),
        (torch.zeros(1, 8, 8, 3, device="meta"), "no numbers"),
        (torch.zeros(1, 8, 8, 3).to_sparse(), "no numbers"),
        (torch.rand(1, 8, 8, 3) * 255, "instead of 1"),
        (torch.rand(1, 8, 8, 3, dtype=torch.float64) * 65535, "instead of 1"),
        (torch.linspace(-1, 1, 192).reshape(1, 8, 8, 3), "go down to -1 instead of 0"),
        (torch.full((1, 8, 8, 3), float("nan")), "not finite"),
        (torch.full((1, 8, 8, 3), float("inf")), "not finite"),
        (torch.zeros(1, 8, 8, 3, dtype=torch.complex64), "complex"),
        (torch.zeros(1, 8, 8, 3, dtype=torch.int64), "int64"),
        (torch.zeros(1).expand(1, 100_000, 100_000, 3), "more than 64 million"),
    ],
    ids=range(19),
)
def test_what_is_no_image_is_refused(image, problem):
    with pytest.raises(Unreadable, match=problem):
        list(pictures_of(image))


@pytest.mark.parametrize(
    ("image", "cure"),
    [
        (torch.full((1, 8, 8, 3), 255.0), "divide it by 255"),
        (torch.full((1, 8, 8, 3), 65535.0), "divide it by 65535"),
        (torch.full((1, 8, 8, 3), 5.0), "bring it to 0 to 1"),
        (torch.full((1, 8, 8, 3), -1.0), "add 0.5"),
    ],
)
def test_numbers_far_outside_come_with_their_cure(image, cure):
    with pytest.raises(Unreadable) as caught:
        list(pictures_of(image))
    assert cure in caught.value.cure


def test_a_wildcard_is_not_told_as_a_brace_too():
    assert len(exemplar_notes(exemplars(*4 * [(64, 64)], captions="{cat|dog} {} stone"), "node", "input")) == 2
