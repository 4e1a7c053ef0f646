"""Small imitations of how other packs call a CLIP and its tokenizer, none of their code: see docs/interop.md."""

import copy
import pickle

import pytest
import torch


@pytest.fixture
def applied(core, loaded):
    vectors = {"clip_l": torch.randn(2, 768, generator=torch.Generator().manual_seed(0)) * 0.02}
    return core.host.with_relation(loaded.clip, "<R>", vectors)


def inner(clip):
    """What stands where the host keeps the Hugging Face tokenizer."""
    return clip.tokenizer.clip_l.tokenizer


def encode(clip, text):
    with torch.inference_mode():
        return clip.encode_from_tokens(clip.tokenize(text))


def test_a_list_of_texts_without_special_tokens(loaded, applied):
    """Parsers of A1111's syntax tokenize all pieces of a prompt at once."""
    texts = ["a cat", "stone", ""]
    asked = {"truncation": False, "add_special_tokens": False}
    assert inner(applied)(texts, **asked)["input_ids"] == inner(loaded.clip)(texts, **asked)["input_ids"]
    (ids,) = inner(applied)(["cat <R> stone"], **asked)["input_ids"]
    cat, stone = inner(loaded.clip)(["cat", "stone"], **asked)["input_ids"]
    assert len(ids) == 4 and [ids[0], ids[3]] == [*cat, *stone] and all(torch.is_tensor(i) for i in ids[1:3])


def test_word_ids_are_those_of_the_host_s_embedding(core, loaded, applied, embeddings):
    """Packs that weigh words ask for the word of each token."""
    given = applied.tokenizer.clip_l.tokenizer._given["<R>"]
    core.relation.save(core.relation.Relation({"clip_l": given}), embeddings / "asked.safetensors")
    ours, native = (
        [word for _, _, word in clip.tokenize(text, return_word_ids=True)["l"][0]]
        for clip, text in ((applied, "cat <R> (stone:1.2)"), (loaded.clip, "cat embedding:asked (stone:1.2)"))
    )
    assert ours == native


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
@pytest.mark.parametrize("hints", [False, True])
def test_a_copied_tokenizer_knows_the_relation(core, applied, copied, hints):
    """hints: as ReVersion Apply Relation hands the CLIP out."""
    from reversion_pack.nodes.progress import tell_running_node

    clone = core.host.with_hints(applied.clone(), tell_running_node) if hints else applied.clone()
    encode(clone, "cat on stone")
    kind, clone.tokenizer = type(clone.tokenizer), copied(clone.tokenizer)
    assert type(clone.tokenizer) is kind and core.host.placeholders(clone) == {"<R>"}
    assert torch.equal(encode(clone, "cat <R> stone"), encode(applied, "cat <R> stone"))


def test_a_clone_with_patches_keeps_the_relation(applied):
    """LoRA loaders, clip skip and mergers clone the CLIP and patch it."""
    clone = applied.clone()
    clone.clip_layer(-2)
    plain = applied.clone()
    assert not torch.equal(encode(clone, "cat <R> stone"), encode(clone, "cat stone"))
    assert torch.equal(encode(plain, "cat <R> stone"), encode(applied, "cat <R> stone"))


def test_what_is_asked_of_the_tokenizer_itself(loaded, applied):
    ours, plain = inner(applied), inner(loaded.clip)
    assert ours.get_vocab() == plain.get_vocab()
    assert ours.convert_tokens_to_ids(["cat</w>"]) == plain.convert_tokens_to_ids(["cat</w>"])
    assert ours.encode("cat stone") == plain.encode("cat stone")
    assert applied.tokenizer.untokenize(applied.tokenize("cat")["l"][0][:2]) == loaded.clip.tokenizer.untokenize(
        loaded.clip.tokenize("cat")["l"][0][:2]
    )


def test_a_prompt_in_parts_is_encoded_like_the_host_s(applied):
    """Packs that schedule or concatenate prompts encode each part by itself."""
    parts = [encode(applied, text) for text in ("cat <R> stone", "a wall")]
    assert torch.equal(torch.cat(parts, 1)[:, :77], encode(applied, "cat <R> stone"))
