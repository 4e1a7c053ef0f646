"""<R> in prompts, against the host's own embedding syntax and its own encoding."""

import dataclasses
import json
import struct

import pytest
import torch


@pytest.fixture(scope="module")
def relation(core, embeddings):
    vectors = {"clip_l": torch.randn(2, 768, generator=torch.Generator().manual_seed(0)) * 0.02}
    made = core.relation.Relation(vectors)
    core.relation.save(made, embeddings / "carved.safetensors")
    return made


def encode(clip, text):
    with torch.inference_mode():
        return clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)


def assert_same(got, expected):
    assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])


@pytest.fixture
def applied(core, loaded, relation):
    return core.host.with_relation(loaded.clip, "<R>", relation.vectors)


@pytest.mark.parametrize(
    ("ours", "native"),
    [
        ("cat <R> stone", "cat embedding:carved stone"),
        ("cat<R>stone", "cat embedding:carved stone"),
        ("(<R>:1.3)", "(embedding:carved:1.3)"),
        ("cat (<R>:1.3) stone", "cat ( embedding:carved :1.3) stone"),
        ("cat <R>, stone", "cat embedding:carved , stone"),
        ("<R>", "embedding:carved"),
        ("a <R> b <R> c", "a embedding:carved b embedding:carved c"),
        ("((cat)) <R>\nstone", "((cat)) embedding:carved stone"),
    ],
)
def test_placeholder_means_what_the_host_s_embedding_means(loaded, applied, ours, native):
    assert_same(encode(applied, ours), encode(loaded.clip, native))
    assert not torch.equal(encode(applied, ours)[0], encode(loaded.clip, ours)[0])


@pytest.mark.parametrize("words", range(68, 77))
@pytest.mark.parametrize(
    ("ours", "native"),
    [
        ("<R> stone", "embedding:four stone"),
        ("<R>, stone", "embedding:four , stone"),
        ("(cat <R> stone:1.2)", "(cat embedding:four stone:1.2)"),
        ("cat <R> <R>\n(<R>)", "cat embedding:four embedding:four ( embedding:four )"),
    ],
)
def test_vectors_stay_together_at_the_border_of_a_window(core, loaded, embeddings, words, ours, native):
    """The host reads 75 tokens at once, and moves what does not fit into the next window."""
    vectors = {"clip_l": torch.randn(4, 768, generator=torch.Generator().manual_seed(2)) * 0.02}
    core.relation.save(core.relation.Relation(vectors), embeddings / "four.safetensors")
    clip = core.host.with_relation(loaded.clip, "<R>", vectors)
    found, expected = (
        [[(t.tolist() if torch.is_tensor(t) else t, weight) for t, weight in window] for window in windows]
        for windows in (
            clip.tokenize("word " * words + ours)["l"],
            loaded.clip.tokenize("word " * words + native)["l"],
        )
    )
    assert found == expected


@pytest.mark.parametrize("text", ["", "cat on stone", "(cat:1.2), [stone] <S>", "word " * 120])
def test_without_the_placeholder_the_encoding_is_the_host_s(loaded, applied, text):
    assert_same(encode(applied, text), encode(loaded.clip, text))


def test_the_incoming_clip_is_unchanged(core, loaded, relation):
    before, tokenizer = encode(loaded.clip, "cat <R> stone"), loaded.clip.tokenizer
    inner = loaded.clip.tokenizer.clip_l.tokenizer
    core.host.with_relation(loaded.clip, "<R>", relation.vectors)
    assert loaded.clip.tokenizer is tokenizer and loaded.clip.tokenizer.clip_l.tokenizer is inner
    assert_same(encode(loaded.clip, "cat <R> stone"), before)


def test_relations_chain(core, loaded, relation):
    other = {"clip_l": relation.vectors["clip_l"][:1] * 3}
    both = core.host.with_relation(core.host.with_relation(loaded.clip, "<R>", relation.vectors), "<S>", other)
    only_s = core.host.with_relation(loaded.clip, "<S>", other)
    assert_same(encode(both, "cat <R> dog"), encode(loaded.clip, "cat embedding:carved dog"))
    assert_same(encode(both, "cat <S> dog"), encode(only_s, "cat <S> dog"))
    assert not torch.equal(encode(both, "cat <R> dog <S> cow")[0], encode(only_s, "cat <R> dog <S> cow")[0])


def test_clip_skip_and_lora_after_it_keep_it(loaded, applied, checkpoint):
    import comfy.sd

    def skip(clip):
        clip = clip.clone()
        clip.clip_layer(-12)
        return clip

    assert_same(encode(skip(applied), "cat <R> stone"), encode(skip(loaded.clip), "cat embedding:carved stone"))
    assert not torch.equal(encode(skip(applied), "cat <R> stone")[0], encode(applied, "cat <R> stone")[0])

    key = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    generator = torch.Generator().manual_seed(0)
    lora = {
        f"{key}.lora_up.weight": torch.randn(768, 2, generator=generator),
        f"{key}.lora_down.weight": torch.randn(2, 768, generator=generator),
    }

    def with_lora(clip):
        return comfy.sd.load_lora_for_models(loaded.model, clip, lora, 0.0, 0.3)[1]

    changed = encode(with_lora(applied), "cat <R> stone")
    assert_same(changed, encode(with_lora(loaded.clip), "cat embedding:carved stone"))
    assert not torch.equal(changed[0], encode(applied, "cat <R> stone")[0])


def test_strength_goes_from_the_first_word_to_the_relation(core, loaded, relation):
    about = {"reversion.settings": json.dumps({"initial_word": "inside"})}
    made = core.relation.Relation(relation.vectors, about)
    with torch.inference_mode():
        word = core.host.word_rows(loaded.clip, "clip_l", ["inside"])
        weak = core.host.at_strength(made, loaded.clip, 0.0)["clip_l"]
        half = core.host.at_strength(made, loaded.clip, 0.5)["clip_l"]
    torch.testing.assert_close(weak, word.expand(2, -1), rtol=1e-4, atol=1e-6)
    expected = (word.norm() + relation.vectors["clip_l"].norm(dim=1)) / 2
    torch.testing.assert_close(half.norm(dim=1), expected, rtol=1e-4, atol=1e-6)
    assert core.host.at_strength(made, loaded.clip, 1.0)["clip_l"] is relation.vectors["clip_l"]


def test_a_relation_of_another_family_is_refused(core, loaded):
    for vectors, problem in (
        ({"clip_h": torch.zeros(1, 1024)}, r"it is for SD 2\.x \(clip_h\) and this CLIP takes clip_l"),
        ({"clip_l": torch.zeros(1, 512)}, "its vectors have 512 numbers and this CLIP takes 768"),
    ):
        with pytest.raises(core.errors.ReVersionError, match=problem):
            core.host.check_fits(core.relation.Relation(vectors), loaded.clip, "Apply")


def test_lying_safetensors_headers_are_refused(core, tmp_path):
    header = json.dumps({"clip_l": {"dtype": "F32", "shape": [1, 768], "data_offsets": [0, 10**12]}}).encode()
    (tmp_path / "r.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(core.errors.ReVersionError, match=r"'r\.safetensors' is not a relation"):
        core.relation.load(tmp_path / "r.safetensors")


def test_a_prompt_that_lacks_or_misspells_the_word_is_told_and_encoded_as_ever(core, loaded, applied, relation, caplog):
    caplog.set_level("INFO")
    told = []
    telling = core.host.with_hints(core.host.with_relation(loaded.clip, "<R>", relation.vectors), told.append)
    for text in ("cat <R> stone", "cat <r> stone", "cat <r> stone", "cat on stone", ""):
        assert_same(encode(telling, text), encode(applied, text))
    said = ["<r> is read as letters: this CLIP knows <R>; write <R>."] * 2
    assert told[:3] == ["", *said] and told[3].startswith("There is no <R> in this prompt") and told[4:] == [""]
    assert len([record for record in caplog.records if "read as letters" in record.message]) == 1
    chained = core.host.with_relation(telling, "<S>", relation.vectors)
    encode(chained, "cat <R> stone <S> wall <T>")
    assert told[5:] == ["<T> is read as letters: this CLIP knows <R> and <S>."]
    assert type(loaded.clip.tokenizer).tokenize_with_weights.__module__.startswith("comfy")


def test_a_clip_that_tells_has_the_identity_of_its_inputs(core, loaded, relation):
    """Two queues of the same graph are found on disk, though their CLIPs are two objects."""
    from reversion_pack.nodes.progress import hint_on_running_node

    found = [
        core.host.model_identity(
            loaded.model,
            core.host.with_hints(core.host.with_relation(loaded.clip, "<R>", relation.vectors), hint_on_running_node),
            loaded.vae,
        )
        for _ in range(2)
    ]
    assert found[0] == found[1] and not found[0].unidentified


def test_other_packs_may_ask_the_tokenizer_for_several_texts(core, loaded, relation, applied):
    """As the parser of A1111's prompts in smZ's nodes does."""
    tokenizer = applied.tokenizer.clip_l.tokenizer
    several = tokenizer(["cat <R> stone", "a dog"])["input_ids"]
    assert several[1] == loaded.clip.tokenizer.clip_l.tokenizer("a dog")["input_ids"]
    ids = tokenizer("cat <R> stone")["input_ids"]
    assert (
        list(map(torch.is_tensor, several[0])) == list(map(torch.is_tensor, ids))
        and sum(map(torch.is_tensor, ids)) == 2
    )


def test_what_is_cut_off_a_long_caption_is_said_and_no_negative(core, loaded, drawn):
    long = "red circle {} " + "very " * 90 + "blue square"
    exemplars = dataclasses.replace(drawn, captions=((long,), *drawn.captions[1:]))
    given = core.settings.TrainSettings(), core.steering.Steering(), core.focal.Focal()
    inputs = core.inputs.TrainingInputs(exemplars, *given)
    (note,) = core.prepare.check(loaded.model, loaded.clip, loaded.vae, inputs, "Train").notes
    assert "'red circle {} very" in note and note.endswith("very'")
    read = core.host.encoded_part(loaded.clip, long, 1)
    # 77 tokens: start, end, "red circle <R>", and 72 of the rest.
    assert read.split() == ["red", "circle", "{}", *["very"] * 72]
    assert core.host.encoded_part(loaded.clip, drawn.captions[1][0], 1) == drawn.captions[1][0]
    data = core.prepare.training_data(loaded.clip, inputs, torch.zeros(8, 4, 8, 8), torch.zeros(8, 4, 8, 8))
    assert len(data.negatives[0]) == 2


@pytest.mark.parametrize(
    "caption", ["cat {} \u77f3 " + "\u732b" * 200, "cat {} " + "\u732b\uff0c" * 90, "\u732b{}" + "\u77f3\u5934" * 60]
)
def test_what_is_read_of_a_caption_without_spaces_ends_at_a_character(core, loaded, caption):
    read = core.host.encoded_part(loaded.clip, caption, 1)
    windows = [loaded.clip.tokenize(text.replace("{}", "and"))["l"] for text in (read, read + caption[len(read)])]
    assert caption.startswith(read) and "{}" in read and len(read) > 20
    assert [len(found) for found in windows] == [1, 2]
