"""Relations among the host's own tokens: in prompts, and in the captions of exemplars."""

import bisect
import copy
import logging
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import comfy.sd1_clip
import torch
from transformers import BatchEncoding

from ..errors import ReVersionError
from ..method.words import INITIAL_WORD, PLACEHOLDER, SLOT
from ..store.relation import Relation
from .encoders import (
    embedding_scale,
    encoder_of,
    encoders,
    encodes_in_batches,
    ids_after_a_word,
    plain_ids,
    tokenizers,
    word_rows,
)
from .subclassing import with_added

if TYPE_CHECKING:
    from comfy.sd import CLIP

_WINDOW = 77  # tokens that CLIP reads at once
_LONGEST_WORD = 30  # characters; longer ones are sentences without spaces
_MARK = "\x1f"  # of where a placeholder stood; no text has it


def _any_of(placeholders):
    """A pattern of any of the placeholders; of nothing where there is none."""
    longest_first = sorted(placeholders, key=len, reverse=True)
    return "|".join(map(re.escape, longest_first)) or r"(?!)"


class _AfterPlaceholder(str):
    """The rest of a text behind a placeholder, on its way through the host."""


class _Rows(list):
    """What stands for a relation, as the host reads an embedding: by its shape, row by row."""

    @property
    def shape(self):
        return len(self), 1


class _Vector(torch.Tensor):
    """A vector among the numbers of tokens, which callers compare with numbers: it equals itself alone."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # as of torch.nn.Parameter: what comes of it is plain
    __hash__ = torch.Tensor.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other


class _KeepsRelationsWhole:
    """Added to the class of an encoder's tokenizer: its reading of prompts takes placeholders for `embedding:NAME`.

    The host moves the vectors of an embedding into the next window together where they do not fit, and cuts a long
    text anywhere.
    """

    def tokenize_with_weights(self, text, *args, **kwargs):
        known = self.tokenizer
        if isinstance(text, str) and self.embedding_directory is not None and _has_relations(known):
            text = known.with_embeddings(text, self.embedding_identifier)
        return super().tokenize_with_weights(text, *args, **kwargs)

    def _try_get_embedding(self, embedding_name):
        found = self.tokenizer.at_start(embedding_name) if _has_relations(self.tokenizer) else None
        if found is None:
            return super()._try_get_embedding(embedding_name)
        placeholder, rows, rest = found
        nowhere = copy.copy(self)
        nowhere.embedding_directory = []
        # Newer hosts also ask for the name.
        names = [placeholder] * (len(super(_KeepsRelationsWhole, nowhere)._try_get_embedding("none")) - 2)
        return (rows, *names, rest)


def _has_relations(tokenizer):
    return isinstance(tokenizer, _TokenizerWithRelations)


class _TokenizerWithRelations:
    """The tokenizer of one text encoder that also knows placeholders: vectors, or a word, take their place.

    It stands in for the tokenizer inside a *copy* of the host's, so that the host's own parsing of weights, its
    templates and its packing into windows stay in charge. What it makes of a placeholder is what the host makes of
    `embedding:NAME` where that works. Texts without a placeholder go to the tokenizer as they came.
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

    def __len__(self):
        return len(self._tokenizer)

    def __bool__(self):  # also where the tokenizer has no length
        return True

    def with_embeddings(self, text, identifier):
        """The text with an `embedding:` before each placeholder of vectors, behind a mark that `_row` takes out."""
        vectors = [placeholder for placeholder, given in self._given.items() if not isinstance(given, str)]
        changed = re.sub(_any_of(vectors), rf"{_MARK} {identifier}\g<0>", text.replace(_MARK, " "))
        if changed == text:
            return text
        return f"{changed}{_MARK}" if text.endswith("\n") else changed  # the host takes newlines from its end

    def at_start(self, name):
        """(placeholder, its rows, the rest) of the name of an embedding that is a placeholder, or None."""
        match = re.match(_any_of(self._given), name)
        if not match or isinstance(self._given[match[0]], str):
            return None
        rest = name[match.end() :].partition(_MARK)
        blank = not rest[0].strip(" ")
        return match[0], _Rows(self._given[match[0]]), "" if blank else _AfterPlaceholder("".join(rest))

    def __call__(self, text=None, *args, **kwargs):
        if kwargs.get("is_split_into_words") and any(map(self._knows, text)):
            text = " ".join(text)
        several = isinstance(text, (list, tuple))
        if not any(map(self._knows, text if several else [text])):
            return self._tokenizer(text, *args, **kwargs)
        if kwargs.get("return_tensors"):
            # Vectors are no ids.
            words = " and ".join(self._given)
            logging.warning("ReVersion: a node asks for ids of tokens, so %s is read as letters there.", words)
            return self._tokenizer(text, *args, **kwargs)
        special = kwargs.get("add_special_tokens", True)
        rows = [self._row(one, special) for one in (text if several else [text])]
        return self._encoding(rows, several, special, kwargs)

    def _knows(self, text):
        known = isinstance(text, str) and (isinstance(text, _AfterPlaceholder) or _MARK in text)
        return known or (isinstance(text, str) and re.search(_any_of(self._given), text) is not None)

    def _row(self, text, special):
        """The tokens of one text."""
        after = isinstance(text, _AfterPlaceholder)
        # As it was, where the reader knows no embeddings; a mark that is left has lost the placeholder after it.
        text, mark, _ = text.replace(f"{_MARK} {self._owner.embedding_identifier}", "").partition(_MARK)
        words = {placeholder: word for placeholder, word in self._given.items() if isinstance(word, str)}
        text = re.sub(_any_of(words), lambda match: words[match[0]], text) if words else text
        pieces = re.split(f"({_any_of(self._given)})", text)
        ids, end = self._around() if special else ([], [])
        for i, piece in enumerate(pieces):
            if i % 2:
                ids.extend(v.as_subclass(_Vector) if torch.is_tensor(v) else v for v in self._given[piece])
            elif piece.strip(" "):
                ids.extend(self._ids(piece, after or i > 0, bool(mark) or i < len(pieces) - 1))
        return [*ids, *end]

    def _around(self):
        """The tokens that start and that end every text."""
        empty, start = self._tokenizer("")["input_ids"], self._owner.tokens_start
        return empty[:start], empty[start:] if self._owner.tokenizer_adds_end_token else []

    def _encoding(self, rows, several, special, asked):
        """What a tokenizer of Hugging Face returns for rows of tokens: cut and filled as asked."""
        longest = asked.get("max_length") or getattr(self._tokenizer, "model_max_length", None)
        if asked.get("truncation") and longest:
            end = self._around()[1] if special else []
            rows = [row if len(row) <= longest else [*row[: longest - len(end)], *end] for row in rows]
        to_longest = asked.get("padding") in (True, "longest")
        wanted = longest if asked.get("padding") == "max_length" else max(map(len, rows)) if to_longest else 0
        pad = getattr(self._tokenizer, "pad_token_id", 0)
        filling = [[pad] * max((wanted or 0) - len(row), 0) for row in rows]
        ids = [[*row, *fill] for row, fill in zip(rows, filling, strict=True)]
        masks = [[1] * len(row) + [0] * len(fill) for row, fill in zip(rows, filling, strict=True)]
        found = {"input_ids": ids, "attention_mask": masks}
        return BatchEncoding(found if several else {name: of_all[0] for name, of_all in found.items()})

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
        changed.__class__ = with_added(_KeepsRelationsWhole, type(tokenizer))
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


def is_in_first_window(clip: "CLIP", key: str, tokens: Mapping[str, list[list]]) -> bool:
    """Whether R is among the first tokens that an encoder reads at once; tokens: one of `caption_tokens`."""
    return any(isinstance(token, tuple) for token in tokens[encoder_of(clip, key).tokens][0])


def encoded_part(clip: "CLIP", caption: str, vectors: int) -> str:
    """The part of a caption template that is encoded: whole words up to the end of the first window, where captions
    are encoded in batches. vectors: how many stand in the place of `{}`. Of a script without spaces it is characters.
    """
    if not encodes_in_batches(clip):
        return caption
    marked = _with_markers(clip, vectors)

    def fits(text):
        return all(len(windows) == 1 for windows in _unweighted(marked, text.replace(SLOT, PLACEHOLDER)).values())

    # No word is shorter than a token: no more words than a window has tokens are read.
    words = caption.split(" ")[:_WINDOW]
    if len(words) == caption.count(" ") + 1 and fits(caption):
        return caption
    count = _most(len(words), lambda count: fits(" ".join(words[:count])))
    text = " ".join(words[:count])
    if count == len(words) or len(words[count]) <= _LONGEST_WORD:
        return text
    # Scripts without spaces: as much of it as is read, by characters.
    rest = f" {words[count]}" if text else words[count]
    return text + rest[: _most(min(len(rest), _WINDOW), lambda more: fits(text + rest[:more]))].rstrip()


def _most(count, fits):
    """The largest number up to `count` that fits, of which all smaller ones do."""
    return bisect.bisect_left(range(count + 1), True, key=lambda number: not fits(number)) - 1


def _with_markers(clip: "CLIP", vectors: int) -> "CLIP":
    """A clone of the CLIP in which the relation's vector i is the marker (encoder key, i)."""
    return with_relation(clip, PLACEHOLDER, {key: [(key, i) for i in range(vectors)] for key in encoders(clip)})


def _unweighted(clip: "CLIP", text: str) -> dict[str, list]:
    """The host's tokens of a text whose parentheses are parentheses."""
    try:
        return clip.tokenize(text, disable_weights=True)
    except TypeError:  # tokenizers with a template set this themselves
        return clip.tokenize(text)
