"""The text encoders of the host's CLIP, found rather than listed, and the token embeddings that R lives among."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import comfy.sd1_clip
import comfy.sdxl_clip
import torch

if TYPE_CHECKING:
    from comfy.sd import CLIP

# Root mean square of CLIP's token embeddings, 0.4 / sqrt(768): learning rates are given for it.
CLIP_RMS = 0.0144
_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Encoder:
    """One text encoder with its tokenizer.

    key: the host's, also in embedding files (`clip_l`, `t5xxl`, ...); tokens: where the CLIP's `tokenize` puts its
    tokens.
    """

    key: str
    tokens: str
    module: comfy.sd1_clip.SDClipModel
    tokenizer: comfy.sd1_clip.SDTokenizer

    @property
    def is_clip(self) -> bool:
        return self.key.startswith("clip_")

    @property
    def embedding(self) -> torch.nn.Module:
        """The module that looks up token embeddings; quantised tables are read through it alone."""
        return self.module.transformer.get_input_embeddings()


def tokenizers(of_clip: object) -> dict[str, comfy.sd1_clip.SDTokenizer]:
    """Attribute of a CLIP's tokenizer -> the tokenizer of one text encoder, there or not."""
    held = getattr(of_clip, "__dict__", {})
    return {name: value for name, value in held.items() if isinstance(value, comfy.sd1_clip.SDTokenizer)}


def encoders(clip: "CLIP") -> dict[str, Encoder]:
    """Key -> encoder, of those that the CLIP really has: SD 3 may lack some, Anima has T5's tokenizer only."""
    found = {}
    for tokenizer in tokenizers(clip.tokenizer).values():
        key = tokenizer.embedding_key
        module = getattr(clip.cond_stage_model, key, None)
        if isinstance(module, comfy.sd1_clip.SDClipModel):
            found[key] = Encoder(key, key.removeprefix("clip_"), module, tokenizer)
    return found


def encoder_keys(clip: "CLIP") -> list[str]:
    """The host's keys of a CLIP's text encoders, such as ["clip_l"]."""
    return list(encoders(clip))


def encodes_in_batches(clip: "CLIP") -> bool:
    """Whether captions of one window can go through the text encoders together: CLIP's own, of SD 1.x, 2.x and SDXL."""
    kinds = (comfy.sd1_clip.SD1ClipModel, comfy.sdxl_clip.SDXLClipModel)
    return isinstance(clip.cond_stage_model, kinds) and all(e.is_clip for e in encoders(clip).values())


def encoder_of(clip: "CLIP", key: str) -> Encoder:
    """The encoder of this key. Raises KeyError where the CLIP has none of it."""
    return encoders(clip)[key]


def plain_ids(owner: comfy.sd1_clip.SDTokenizer, text: str, tokenizer: Callable | None = None) -> list[int]:
    """The tokens of a text without those that start and end every text; tokenizer: instead of the owner's."""
    ids = (tokenizer or owner.tokenizer)(text)["input_ids"]
    return ids[owner.tokens_start : len(ids) - (1 if owner.tokenizer_adds_end_token else 0)]


def ids_after_a_word(owner: comfy.sd1_clip.SDTokenizer, text: str, tokenizer: Callable | None = None) -> list[int]:
    """The tokens of a text that goes on after a word: most tokenizers read a space as part of the next word."""
    return plain_ids(owner, f"a{text}", tokenizer)[len(plain_ids(owner, "a", tokenizer)) :]


def token_ids(clip: "CLIP", key: str, word: str) -> list[int]:
    """The tokens of a word as it stands within a text."""
    return ids_after_a_word(encoder_of(clip, key).tokenizer, f" {word}")


def embedding_scale(embedding: torch.nn.Module) -> float:
    """What the module multiplies its rows by: sqrt(d) for Gemma in newer hosts, else 1.

    Vectors that stand for tokens are not multiplied by the host; older hosts multiply both alike, after the lookup.
    Relations are kept in the scale of the rows, so that both mean the same.
    """
    if type(embedding).__name__ != "ScaledEmbedding":  # of comfy.text_encoders.llama
        return 1.0
    first = torch.zeros(1, dtype=torch.long, device=embedding.weight.device)
    row = super(type(embedding), embedding).forward(first, out_dtype=torch.float32)
    return round(float(embedding(first, out_dtype=torch.float32).norm() / row.norm()), 3)


def rows(encoder: Encoder, ids: Sequence[int]) -> torch.Tensor:
    """Input embeddings of tokens, float32 [ids, d], in the scale of the table."""
    embedding = encoder.embedding
    ids = torch.tensor(ids, dtype=torch.long, device=embedding.weight.device)
    found = embedding(ids, out_dtype=torch.float32)
    scale = embedding_scale(embedding)
    return found if scale == 1.0 else found / scale


def word_rows(clip: "CLIP", key: str, words: Sequence[str]) -> torch.Tensor:
    """Input token embedding of each word, float32 [words, d]; a word of several tokens is the mean of its tokens."""
    encoder = encoder_of(clip, key)
    ids = [token_ids(clip, key, word) for word in words]
    if not ids:
        return torch.zeros(0, encoder.embedding.weight.shape[-1], device=encoder.embedding.weight.device)
    looked_up = rows(encoder, [i for of_one in ids for i in of_one]).split([len(of_one) for of_one in ids])
    return torch.stack([of_one.mean(0) for of_one in looked_up])


def token_table(clip: "CLIP", key: str) -> torch.Tensor:
    """The input token embeddings of an encoder, [vocabulary, d], as the host holds them or, quantised, float32."""
    encoder = encoder_of(clip, key)
    weight = encoder.embedding.weight
    plain = type(weight) in (torch.Tensor, torch.nn.Parameter)
    return weight if plain else rows(encoder, range(weight.shape[0]))


def vocabulary_norm(clip: "CLIP", key: str) -> torch.Tensor:
    """L2 norm of an encoder's input token embeddings, a scalar on the CPU: the mean for CLIP.

    For others the median, since the tables of language models hold many rows that no text uses.
    """
    norms = torch.cat([part.float().norm(dim=-1) for part in token_table(clip, key).split(_ROWS_AT_ONCE)])
    return (norms.mean() if encoder_of(clip, key).is_clip else norms.median()).cpu()


def vocabulary(clip: "CLIP", key: str) -> dict[int, str]:
    """Token id -> the token as a tokenizer's vocabulary writes it, such as "cat</w>"."""
    return encoder_of(clip, key).tokenizer.inv_vocab


def learning_rate_unit(clip: "CLIP", key: str, word: str) -> float:
    """What to multiply a learning rate by that was chosen for CLIP: the size of the start word's embedding over CLIP's.

    An optimizer's steps are absolute, and the tables of other encoders have numbers of other sizes. 1 for CLIP itself.
    """
    if encoder_of(clip, key).is_clip:
        return 1.0
    return float(word_rows(clip, key, [word]).square().mean().sqrt()) / CLIP_RMS
