"""What goes wrong in the published implementation, shown on the literal reference, and that it cannot happen here.

Weight decay, the third of them, is held in tests/unit/test_trainer.py.
"""

import dataclasses

import pytest
import torch
from training import learn

from lab.harness.reference import Reference
from reversion_core.exemplars import template
from reversion_core.method.words import entity_words


def test_a_caption_without_the_placeholder_teaches_nothing_and_is_refused(core, loaded):
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 1, 4, 8, 8, generator=generator)
    reference = Reference(loaded.clip, loaded.model, {"clip_l": torch.full((768,), 0.01)})
    t = torch.tensor([500])
    told, untold = (
        reference.gradient(reference.denoising_loss(x0, noise, t, [caption]).sum())["clip_l"]
        for caption in ("red circle {} blue square", "red circle blue square")
    )
    assert told.abs().max() > 0 and untold.abs().max() == 0
    with pytest.raises(core.errors.ReVersionError, match="{}"):
        core.exemplars.template("red circle blue square", "ReVersion Train", "exemplars")


def test_a_caption_that_swap_makes_too_long_is_told_as_it_was_written(core, loaded, drawn, tmp_path):
    captions = (("cat {} " + "stone " * 90,),) * len(drawn.captions)
    long = dataclasses.replace(drawn, captions=captions)
    with pytest.raises(core.errors.ReVersionError, match="input 'steering': swap turns the caption 'cat {} stone"):
        learn(core, loaded, long, tmp_path, steering={"swap": 0.01})


def test_words_of_a_relation_are_no_negatives(core, loaded, drawn, tmp_path):
    learned = learn(core, loaded, drawn, tmp_path, steering={"extra_negatives": ("and", "sketch", "on")})
    assert "and, on of extra_negatives may be a part of the relation: left out" in learned.messages


def test_pads_are_not_words_where_the_pad_is_no_special_token(reversion):
    """SDXL's second encoder and SD 2.x pad with token 0, which is "!": the published reading takes it for an entity."""
    import comfy.sdxl_clip

    tokenizer = comfy.sdxl_clip.SDXLClipGTokenizer()
    caption = template("red circle {} blue square", "ReVersion Train", "exemplars")
    window = [token for token, _ in tokenizer.tokenize_with_weights(caption.replace("{}", "and"))[0]]
    published = {token for token in window if token not in (49406, 49407)}
    words = entity_words(caption)
    ours = {token for word in words for token in tokenizer.tokenizer(word)["input_ids"][1:-1]}
    assert published - ours == {0, tokenizer.tokenizer("and")["input_ids"][1]}
    assert words == ("red", "circle", "blue", "square")
