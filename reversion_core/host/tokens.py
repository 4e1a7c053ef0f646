"""Relations among the host's own tokens: in prompts, and in the captions of exemplars."""

import bisect
import copy
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import comfy.sd1_clip
import torch

from ..errors import ReVersionError
from ..method.words import INITIAL_WORD, PLACEHOLDER, SLOT
from ..store.relation import Relation
from .encoders import (
    embedding_scale,
    encoders,
    encodes_in_batches,
    ids_after_a_word,
    plain_ids,
    tokenizers,
    word_rows,
)

if TYPE_CHECKING:
    from comfy.sd import CLIP

_WINDOW = 77  # tokens that CLIP reads at once


class _TokenizerWithRelations:
    """The tokenizer of one text encoder that also knows placeholders: vectors, or a word, take their place.

    It stands in for the tokenizer inside a *copy* of the host's, so that the host's own parsing of weights, its
    templates and its packing into windows stay in charge. What it makes of a placeholder is what the host makes of
    `embedding:NAME` where that works.
    """

    def __init__(self, owner: comfy.sd1_clip.SDTokenizer, given: dict[str, Sequence | str]):
        """owner: the host's tokenizer of the encoder; given: placeholder -> sequence of vectors, or a word."""
        self._owner = owner
        self._tokenizer = owner.tokenizer
        self._given = given

    def __getattr__(self, name: str) -> object:
        if name == "_tokenizer":  # of a copy that is not filled yet
            raise AttributeError(name)
        return getattr(self._tokenizer, name)

    def __call__(self, text: str | list[str], **kwargs: object) -> dict[str, list]:
        if not isinstance(text, str):  # a list of texts, as other packs ask for
            return {"input_ids": [self(one, **kwargs)["input_ids"] for one in text]}
        pattern = "|".join(re.escape(p) for p in sorted(self._given, key=len, reverse=True))
        pieces = re.split(f"({pattern})", text)
        if len(pieces) == 1:
            return self._tokenizer(text, **kwargs)
        if isinstance(self._given[pieces[1]], str):
            return self._tokenizer("".join(self._given.get(piece, piece) for piece in pieces), **kwargs)
        start = self._owner.tokens_start
        empty = self._tokenizer("")["input_ids"]
        ids, end = empty[:start], empty[start:] if self._owner.tokenizer_adds_end_token else []
        if not kwargs.get("add_special_tokens", True):
            ids, end = [], []
        for i, piece in enumerate(pieces):
            if piece in self._given:
                ids.extend(self._given[piece])
            elif piece.strip(" "):
                ids.extend(self._ids(piece, i > 0, i < len(pieces) - 1))
        return {"input_ids": [*ids, *end]}

    def _ids(self, piece: str, after: bool, before: bool) -> list[int]:
        """The tokens of a piece of the text that stands after and before a placeholder or not.

        A placeholder is a word, the space before it part of it. The rest after it is read as the host does behind an
        embedding, by itself, where tokens of words are the same with and without a space before them; else as it is.
        """
        piece = piece.rstrip(" ") if before else piece
        if not after:
            return plain_ids(self._owner, piece, self._tokenizer)
        if self._reads_words_alone():
            return plain_ids(self._owner, piece.lstrip(), self._tokenizer)
        return ids_after_a_word(self._owner, piece, self._tokenizer)

    def _reads_words_alone(self) -> bool:
        word = "stone"
        alone = plain_ids(self._owner, word, self._tokenizer)
        return alone == ids_after_a_word(self._owner, f" {word}", self._tokenizer)


def with_relation(clip: "CLIP", placeholder: str, vectors: Mapping[str, torch.Tensor | list]) -> "CLIP":
    """A clone of the host's CLIP in whose prompts `placeholder` is the given vectors (encoder key -> [k, d]).

    A tokenizer without an encoder, such as Anima's of T5, reads a plain word instead. The incoming CLIP and its
    tokenizer are left as they are; the text encoder's weights are shared.
    """
    clone = clip.clone()
    clone.tokenizer = copy.copy(clip.tokenizer)
    for attribute, tokenizer in tokenizers(clip.tokenizer).items():
        encoder = encoders(clip).get(tokenizer.embedding_key)
        given = INITIAL_WORD if encoder is None else vectors.get(encoder.key)
        if given is None:
            continue
        if torch.is_tensor(given) and (scale := embedding_scale(encoder.embedding)) != 1.0:
            given = given * scale
        if torch.is_tensor(given) and not encoder.is_clip:
            # In the host's longer form: some tokenizers compare every token with a number.
            given = [{"type": "embedding", "data": row} for row in given]
        changed, known = copy.copy(tokenizer), tokenizer.tokenizer
        earlier = known._given if isinstance(known, _TokenizerWithRelations) else {}
        if earlier:
            changed.tokenizer = known._tokenizer
        changed.tokenizer = _TokenizerWithRelations(changed, {**earlier, placeholder: given})
        setattr(clone.tokenizer, attribute, changed)
    return clone


def placeholders(clip: "CLIP") -> set[str]:
    """The words that stand for relations in a CLIP's prompts."""
    return placeholders_of(clip.tokenizer)


def placeholders_of(tokenizer: object) -> set[str]:
    """The same of a CLIP's tokenizer."""
    held = (of_encoder.tokenizer for of_encoder in tokenizers(tokenizer).values())
    return {word for t in held if isinstance(t, _TokenizerWithRelations) for word in t._given}


def at_strength(relation: Relation, clip: "CLIP", strength: float) -> dict[str, torch.Tensor]:
    """The relation's vectors between the word it started from (strength 0) and itself (1), and beyond.

    Directions are interpolated on the sphere and norms linearly; strength 1 gives the very same numbers.
    """
    if strength == 1:
        return relation.vectors
    return {
        key: slerp(word_rows(clip, key, [relation.initial_word]).to(vectors), vectors, strength)
        for key, vectors in relation.vectors.items()
    }


def slerp(start: torch.Tensor, end: torch.Tensor, share: float) -> torch.Tensor:
    """Spherical interpolation of directions and linear interpolation of norms: [..., d] each, share may exceed 1."""
    start_norm, end_norm = start.norm(dim=-1, keepdim=True), end.norm(dim=-1, keepdim=True)
    a, b = start / start_norm, end / end_norm
    angle = torch.arccos((a * b).sum(-1, keepdim=True).clamp(-1 + 1e-7, 1 - 1e-7))
    direction = (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)
    return direction * (start_norm + share * (end_norm - start_norm)).clamp(min=0)


def caption_tokens(
    clip: "CLIP", captions: Sequence[str], vectors: int, node: str = "ReVersion Train", input_name: str = "exemplars"
) -> list[dict[str, list[list]]]:
    """The host's tokens of each caption template: name of the encoder's tokens -> windows, each a list of tokens.

    Where vector i of the relation goes stands the marker (encoder key, i). Where captions are encoded in batches the
    first window counts alone, as published. Raises a ReVersionError for a caption that the host cannot read, or one so
    long that the relation is cut off.
    """
    marked = _with_markers(clip, vectors)
    names = {encoder.tokens for encoder in encoders(clip).values()}
    found = []
    for caption in captions:
        try:
            tokens = _unweighted(marked, caption.replace(SLOT, PLACEHOLDER))
        except IndexError as error:  # the host's own reading of "embedding:" without a name
            problem = f"ComfyUI cannot read the caption {caption[:60]!r}"
            raise ReVersionError(node, input_name, problem, "write a name after embedding:") from error
        used = slice(1) if encodes_in_batches(clip) else slice(None)
        windows = {
            name: [[token for token, *_ in window] for window in of_one[used]] for name, of_one in tokens.items()
        }
        if any(sum(isinstance(token, tuple) for part in windows[name] for token in part) < vectors for name in names):
            length = len(windows[min(names)][0])
            problem = f"the caption '{caption[:60]}...' is longer than {length} tokens and its {{}} comes too late"
            raise ReVersionError(node, input_name, problem, "shorten it")
        found.append(windows)
    return found


def encoded_part(clip: "CLIP", caption: str, vectors: int) -> str:
    """The part of a caption template that is encoded: whole words up to the end of the first window, where captions
    are encoded in batches. vectors: how many stand in the place of `{}`.
    """
    if not encodes_in_batches(clip):
        return caption
    marked = _with_markers(clip, vectors)
    words = caption.split(" ")

    def fits(count):
        text = " ".join(words[:count]).replace(SLOT, PLACEHOLDER)
        return all(len(windows) == 1 for windows in _unweighted(marked, text).values())

    # No word is shorter than a token: no more words than a window has tokens are read.
    count = min(len(words), _WINDOW)
    if count == len(words) and fits(count):
        return caption
    return " ".join(words[: bisect.bisect_left(range(count + 1), True, key=lambda n: not fits(n)) - 1])


def _with_markers(clip: "CLIP", vectors: int) -> "CLIP":
    """A clone of the CLIP in which the relation's vector i is the marker (encoder key, i)."""
    return with_relation(clip, PLACEHOLDER, {key: [(key, i) for i in range(vectors)] for key in encoders(clip)})


def _unweighted(clip: "CLIP", text: str) -> dict[str, list]:
    """The host's tokens of a text whose parentheses are parentheses."""
    try:
        return clip.tokenize(text, disable_weights=True)
    except TypeError:  # tokenizers with a template set this themselves
        return clip.tokenize(text)
