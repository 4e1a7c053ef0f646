"""Inspecting relations, and scoring pictures against `transformers` called directly."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from lab.harness import tiny_clip
from reversion_core.errors import ReVersionError
from reversion_core.report import inspection, scoring


def test_nearest_words_are_those_of_the_largest_cosine():
    table = torch.randn(20_000, 16, generator=torch.Generator().manual_seed(0)).half()
    vector = table[12_345].float()[None] * 5
    cosines, numbers = inspection.nearest(vector, table, 3)
    expected = torch.cosine_similarity(vector, table.float()).topk(3)
    assert numbers[0, 0] == 12_345 and torch.equal(numbers[0], expected.indices)
    assert torch.allclose(cosines[0], expected.values, atol=1e-6)


def test_plane_shows_the_directions_of_the_largest_spread():
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(40, 8, generator=generator) * torch.tensor([5.0, 3.0, *[0.01] * 6])
    centre, directions = inspection.plane(rows)
    unit = torch.nn.functional.normalize(rows, dim=-1) - centre
    kept = inspection.on_plane(rows, centre, directions)
    assert float(kept.square().sum() / unit.square().sum()) > 0.99


def test_phrases_of_a_prompt():
    found = scoring.phrases("a cat <R> a stone, at night", "carved from")
    assert found == scoring.Phrases("a cat, a stone", "a cat carved from a stone", "a stone carved from a cat")
    with pytest.raises(ValueError, match="<R> between"):
        scoring.phrases("cat stone", "on")


@pytest.mark.parametrize(
    "prompt",
    [
        "(a cat:1.3) <R> (a stone:0.8)",
        "((a cat)) (<R>:1.2) a stone",
        "<lora:x:1> a cat <R> a stone",
        "(a cat:-0.5) <R> (a stone:+1.2)",
        "(a cat:1e-1) <R> (a stone : .8)",
        "embedding:style.pt a cat <R> a stone embedding:other",
        "a cat <R> a stone BREAK",
        "a cat <R> a stone <S> a table",
        "a table <S> a cat <R> a stone",
        "a cat <R> a stone <R> a table",
    ],
)
def test_weights_and_lora_tags_are_no_words_of_a_prompt(prompt):
    assert scoring.phrases(prompt, "on") == scoring.Phrases("a cat, a stone", "a cat on a stone", "a stone on a cat")


@pytest.mark.parametrize(
    ("prompt", "placeholder", "entities"),
    [
        ("a lion on a stone", "on", "a lion, a stone"),
        ("pineapple in glass jar", "in", "pineapple, glass jar"),
        ("cat embedding:carved-from stone", "embedding:carved-from", "cat, stone"),
        ("cat<R>stone", "<R>", "cat, stone"),
        ("\u6770\u4f5c\uff0c\u732b <R> \u77f3\u5934\uff0c\u591c\u665a", "<R>", "\u732b, \u77f3\u5934"),
        ("masterpiece, best quality, a cat <R> a stone", "<R>", "a cat, a stone"),
        ("\u732b\u5728\u77f3\u5934", "\u5728", "\u732b, \u77f3\u5934"),
    ],
)
def test_the_placeholder_is_a_word_of_its_own_and_the_entities_stand_beside_it(prompt, placeholder, entities):
    assert scoring.phrases(prompt, "carved from", placeholder).entities == entities


def test_an_escaped_parenthesis_is_a_word():
    assert scoring.phrases("a cat \\(grey\\) <R> a stone", "on").entities == "a cat (grey), a stone"


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    return tiny_clip.write(tmp_path_factory.mktemp("clip") / "random-clip")


def test_scores_are_those_of_transformers_called_directly(clip_folder):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (48, 40, 3), dtype=np.uint8) for _ in range(19)]
    wanted = [scoring.phrases(f"cat {i} <R> stone", "painted on") for i in range(19)]
    model, processor = scoring.load(clip_folder, "ReVersion Score")
    entity, relation = scoring.scores(model, processor, pictures, wanted)
    for i in (0, 18):
        texts = [f"cat {i}, stone", f"cat {i} painted on stone", f"stone painted on cat {i}"]
        with torch.inference_mode():
            given = processor(text=texts, images=pictures[i], return_tensors="pt", padding=True)
            logits = model(**given).logits_per_image[0] / model.logit_scale.exp()
        assert entity[i] == pytest.approx(float(logits[0]), abs=1e-5)
        assert relation[i] == pytest.approx(float(logits[1] - logits[2]), abs=1e-5)


def exchanged(name, data):
    return lambda folder: (folder / name).write_bytes(data)


def cut(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def without_a_part(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def without_tokenizer(folder):
    for path in folder.iterdir():
        if any(part in path.name for part in ("token", "vocab", "merges")):
            path.unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            exchanged("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n"),
            "model.safetensors is a pointer",
        ),
        (exchanged("model.safetensors", b"<!DOCTYPE html>" * 99), "model.safetensors is a web page"),
        (exchanged("model.safetensors", b""), "model.safetensors is an empty file"),
        (exchanged("config.json", b"<html>"), "config.json is a web page"),
        (cut, "does not load as CLIP"),
        (without_a_part, "lack 1 parts of CLIP, such as text_projection.weight"),
        (without_tokenizer, "does not tell words apart|does not load as CLIP"),
    ],
    ids=range(7),
)
def test_a_damaged_folder_of_a_clip_is_a_sentence(clip_folder, tmp_path, damage, said):
    folder = Path(shutil.copytree(clip_folder, tmp_path / "damaged"))
    damage(folder)
    with pytest.raises(
        ReVersionError, match=rf"ReVersion Score, input 'clip_folder': .*({said}).*; download its folder"
    ):
        scoring.load(folder, "ReVersion Score")


def test_a_folder_that_is_no_clip_is_refused(tmp_path):
    with pytest.raises(ReVersionError, match="ReVersion Score.*clip_folder.*does not load as CLIP"):
        scoring.load(tmp_path, "ReVersion Score")
