"""Small imitations of how other packs call a CLIP and its tokenizer, none of their code: see docs/interop.md."""

import copy
import pickle
import re

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


def test_tokens_can_be_compared_with_numbers(applied):
    """Such parsers look for the comma and for the end among the tokens, vectors or not, and then compute with them."""
    (ids,) = inner(applied)(["cat <R>, stone"], add_special_tokens=False)["input_ids"]
    (comma,) = inner(applied)(",", add_special_tokens=False)["input_ids"]
    assert [token == comma for token in ids] == [False, False, False, True, False]
    assert [token != comma for token in ids].count(False) == 1 and ids.index(ids[-1]) == 4
    assert ids[1] in {ids[1]} and ids[1] != ids[2]
    with pytest.raises(ValueError):
        torch.asarray([ids])  # by which they see that there are vectors
    assert type(ids[1] * 2) is torch.Tensor and type(torch.stack([ids[1], ids[2]])) is torch.Tensor


ASKED = [
    ("a cat", {}),
    ("a cat", {"return_tensors": "pt", "padding": "max_length", "max_length": 77, "truncation": True}),
    (["a cat", "a red dog"], {"padding": True, "return_tensors": "pt"}),
    (["a cat", "a red dog"], {"padding": "longest"}),
    (["a", "red", "dog"], {"is_split_into_words": True}),
    ("a cat", {"text_pair": "a dog"}),
    ("a cat " * 50, {"truncation": True, "max_length": 20}),
    ("", {}),
]


@pytest.mark.parametrize(("text", "asked"), ASKED, ids=range(len(ASKED)))
def test_texts_without_a_placeholder_are_answered_by_the_tokenizer_itself(loaded, applied, text, asked):
    ours, plain = inner(applied)(text, **asked), inner(loaded.clip)(text, **asked)
    assert type(ours) is type(plain) and ours.keys() == plain.keys()
    for name in plain:
        same = torch.equal if torch.is_tensor(plain[name]) else lambda a, b: a == b
        assert same(getattr(ours, name), getattr(plain, name))
    assert len(inner(applied)) == len(inner(loaded.clip)) and inner(applied)


@pytest.mark.parametrize(
    ("text", "asked", "length"),
    [
        ("cat <R> stone", {}, 6),
        ("cat <R> stone", {"add_special_tokens": False}, 4),
        ("cat <R> stone", {"padding": "max_length", "max_length": 20}, 20),
        ("cat <R> stone " * 30, {"truncation": True, "max_length": 20}, 20),
        ("cat <R> stone " * 30, {"truncation": True, "padding": "max_length", "max_length": 77}, 77),
        (["cat", "<R>", "stone"], {"is_split_into_words": True}, 6),
    ],
)
def test_texts_with_a_placeholder_get_an_answer_of_the_same_form(loaded, applied, text, asked, length):
    found, plain = inner(applied)(text, **asked), inner(loaded.clip)("cat up on stone")
    assert len(found.input_ids) == len(found["attention_mask"]) == length
    assert sum(found.attention_mask) == min(length, 6) or "<R> stone " in text
    if "truncation" in asked:
        assert found.input_ids[-1] == plain.input_ids[-1]
    batch = inner(applied)([text, "a"] if isinstance(text, str) else [" ".join(text), "a"], padding=True)
    assert len(batch.input_ids[0]) == len(batch.input_ids[1]) == len(batch.attention_mask[1])


def test_who_asks_for_tensors_gets_the_letters_and_the_log_says_it(loaded, applied, caplog):
    found = inner(applied)("cat <R> stone", return_tensors="pt")
    assert torch.equal(found.input_ids, inner(loaded.clip)("cat <R> stone", return_tensors="pt").input_ids)
    assert "<R> is read as letters" in caplog.text


def test_a_choice_in_angle_brackets_loses_the_relation_and_embedding_is_the_way_round(
    core, loaded, applied, embeddings
):
    """Packs with prompts of their own, such as WAS's NSP, take `<a|b>` for a choice."""

    def chosen(text):
        return re.sub(r"<([^<>]*)>", lambda match: match[1].split("|")[0], text)

    given = applied.tokenizer.clip_l.tokenizer._given["<R>"]
    core.relation.save(core.relation.Relation({"clip_l": given}), embeddings / "chosen.safetensors")
    assert torch.equal(encode(applied, chosen("cat <R> stone")), encode(loaded.clip, "cat R stone"))
    assert torch.equal(encode(applied, chosen("cat embedding:chosen stone")), encode(applied, "cat <R> stone"))


def test_a_merge_keeps_the_relation_of_the_first_clip(loaded, applied):
    from comfy_extras.nodes_model_merging import CLIPMergeSimple

    def merged(first, second):
        return CLIPMergeSimple().merge(first, second, 1.0)[0]

    assert torch.equal(encode(merged(applied, loaded.clip), "cat <R> stone"), encode(applied, "cat <R> stone"))
    assert torch.equal(encode(merged(loaded.clip, applied), "cat <R> stone"), encode(loaded.clip, "cat <R> stone"))


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
@pytest.mark.parametrize("of_node", [False, True])
def test_a_copied_tokenizer_knows_the_relation(core, loaded, applied, copied, of_node):
    """of_node: of the CLIP that ReVersion Apply Relation hands out, which tells of prompts."""
    from reversion_pack.nodes.relation import ReVersionApplyRelation

    clone = applied.clone()
    if of_node:
        relation = core.relation.Relation({"clip_l": applied.tokenizer.clip_l.tokenizer._given["<R>"]})
        (clone,) = ReVersionApplyRelation.execute(loaded.clip, relation, "<R>", 1.0).args
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
