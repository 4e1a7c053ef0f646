"""Inspecting relations, and scoring pictures against `transformers` called directly."""

import numpy as np
import pytest
import tiny_clip
import torch

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
    "prompt", ["(a cat:1.3) <R> (a stone:0.8)", "((a cat)) (<R>:1.2) a stone", "<lora:x:1> a cat <R> a stone"]
)
def test_weights_and_lora_tags_are_no_words_of_a_prompt(prompt):
    assert scoring.phrases(prompt, "on") == scoring.Phrases("a cat, a stone", "a cat on a stone", "a stone on a cat")


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


def test_a_folder_that_is_no_clip_is_refused(tmp_path):
    with pytest.raises(ReVersionError, match="ReVersion Score.*clip_folder.*does not load as CLIP"):
        scoring.load(tmp_path, "ReVersion Score")
