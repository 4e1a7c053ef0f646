"""Relations among the host's own tokens: in prompts, and in the captions of exemplars."""

import copy
import json
import re

import torch

from ..errors import ReVersionError
from ..method.words import INITIAL_WORD, PLACEHOLDER, SLOT

TOKEN_WINDOW = 77


class _TokenizerWithRelations:
    """A CLIP tokenizer that also knows placeholders: their vectors take the place of token ids.

    It stands in for the Hugging Face tokenizer of a *copy* of the host's tokenizer, so that the host's own parsing of
    weights and its packing into windows of 77 tokens stay in charge.
    """

    def __init__(self, tokenizer, vectors):
        self._tokenizer = tokenizer
        self._vectors = vectors  # placeholder -> float32 [k, d]

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def __call__(self, text, **kwargs):
        pattern = "|".join(re.escape(p) for p in sorted(self._vectors, key=len, reverse=True))
        pieces = re.split(f"({pattern})", text)
        if len(pieces) == 1:
            return self._tokenizer(text, **kwargs)
        start, end = self._tokenizer("")["input_ids"]
        ids = [start]
        for piece in pieces:
            if piece in self._vectors:
                ids.extend(self._vectors[piece])
            elif piece.strip():
                ids.extend(self._tokenizer(piece)["input_ids"][1:-1])
        return {"input_ids": [*ids, end]}


def encoder_keys(clip):
    """The host's keys of a CLIP's text encoders, such as ["clip_l"]."""
    return [key for key in ("clip_l", "clip_g", "clip_h") if hasattr(clip.tokenizer, key)]


def with_relation(clip, placeholder, vectors):
    """A clone of the host's CLIP in whose prompts `placeholder` is the given vectors (encoder key -> [k, d]).

    The incoming CLIP and its tokenizer are left as they are; the text encoder's weights are shared.
    """
    clone = clip.clone()
    clone.tokenizer = copy.copy(clip.tokenizer)
    for key, rows in vectors.items():
        encoder = copy.copy(getattr(clip.tokenizer, key))
        known = encoder.tokenizer
        earlier = known._vectors if isinstance(known, _TokenizerWithRelations) else {}
        plain = known._tokenizer if isinstance(known, _TokenizerWithRelations) else known
        encoder.tokenizer = _TokenizerWithRelations(plain, {**earlier, placeholder: rows})
        setattr(clone.tokenizer, key, encoder)
    return clone


def placeholders(clip):
    """The words that stand for relations in a CLIP's prompts."""
    tokenizers = [getattr(clip.tokenizer, key).tokenizer for key in encoder_keys(clip)]
    return {word for t in tokenizers if isinstance(t, _TokenizerWithRelations) for word in t._vectors}


def token_table(clip, key):
    """The input token embeddings of an encoder, [vocabulary, d], as the host holds them."""
    return getattr(clip.cond_stage_model, key).transformer.get_input_embeddings().weight


def vocabulary_norm(clip, key):
    """Mean L2 norm of an encoder's input token embeddings, a scalar tensor on the CPU."""
    return token_table(clip, key).float().norm(dim=-1).mean().cpu()


def vocabulary(clip, key):
    """Token id -> the token as a tokenizer's vocabulary writes it, such as "cat</w>"."""
    return getattr(clip.tokenizer, key).inv_vocab


def token_ids(clip, key, word):
    """The token ids of a word for an encoder, without the special ones."""
    return getattr(clip.tokenizer, key).tokenizer(word)["input_ids"][1:-1]


def word_rows(clip, key, words):
    """Input token embedding of each word, float32 [words, d]; a word of several tokens is the mean of its tokens."""
    table = token_table(clip, key)
    rows = [table[token_ids(clip, key, word)].float().mean(0) for word in words]
    return torch.stack(rows) if rows else table.new_zeros(0, table.shape[1], dtype=torch.float32)


def at_strength(relation, clip, strength):
    """The relation's vectors between the word it started from (strength 0) and itself (1), and beyond.

    Directions are interpolated on the sphere and norms linearly; strength 1 gives the very same numbers.
    """
    if strength == 1:
        return relation.vectors
    word = json.loads(relation.metadata.get("reversion.settings", "{}")).get("initial_word", INITIAL_WORD)
    return {
        key: slerp(word_rows(clip, key, [word]).to(vectors), vectors, strength)
        for key, vectors in relation.vectors.items()
    }


def slerp(start, end, share):
    """Spherical interpolation of directions and linear interpolation of norms: [..., d] each, share may exceed 1."""
    start_norm, end_norm = start.norm(dim=-1, keepdim=True), end.norm(dim=-1, keepdim=True)
    a, b = start / start_norm, end / end_norm
    angle = torch.arccos((a * b).sum(-1, keepdim=True).clamp(-1 + 1e-7, 1 - 1e-7))
    direction = (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)
    return direction * (start_norm + share * (end_norm - start_norm)).clamp(min=0)


def caption_tokens(clip, captions, vectors, node="ReVersion Train", input_name="exemplars"):
    """The host's tokens of each caption template: encoder name -> first window of 77.

    Where vector i of the relation goes stands the marker (encoder key, i). Raises a ReVersionError for a caption that
    the host cannot read, or one so long that the relation is cut off.
    """
    markers = {key: [(key, i) for i in range(vectors)] for key in encoder_keys(clip)}
    marked = with_relation(clip, PLACEHOLDER, markers)
    windows = []
    for caption in captions:
        try:
            tokens = marked.tokenize(caption.replace(SLOT, PLACEHOLDER), disable_weights=True)
        except IndexError as error:  # the host's own reading of "embedding:" without a name
            problem = f"ComfyUI cannot read the caption {caption[:60]!r}"
            raise ReVersionError(node, input_name, problem, "write a name after embedding:") from error
        window = {name: [token for token, _ in first] for name, (first, *_) in tokens.items()}
        if any(sum(isinstance(token, tuple) for token in part) < vectors for part in window.values()):
            problem = (
                f"the caption '{caption[:60]}...' is longer than {TOKEN_WINDOW} tokens and its {{}} comes too late"
            )
            raise ReVersionError(node, input_name, problem, "shorten it")
        windows.append(window)
    return windows
