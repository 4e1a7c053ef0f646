"""The Relation: what was learned, and its file."""

import io
import json
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save as safetensors_bytes

from .. import families
from ..errors import ReVersionError
from ..method.words import INITIAL_WORD, PLACEHOLDER
from . import foreign
from .files import numbered, remove_old_partials, write_whole
from .reading import Unreadable

FORMAT_VERSION = "1"
MOST_VECTORS = 75  # as many tokens as a prompt's first window has
LARGEST_NUMBER = 1000.0  # words' embeddings have numbers around 0.01
SUFFIXES = (".safetensors", ".pt", ".bin")  # that are written
READ_SUFFIXES = foreign.READ_SUFFIXES
_NAME = re.compile(r"[A-Za-z0-9_-]+")
RESERVED_NAMES = frozenset(
    ("con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in "123456789\u00b9\u00b2\u00b3"))
)


@dataclass(frozen=True, eq=False)
class Relation:
    """vectors: encoder key of the host (`clip_l`, ...) -> float32 [k, d]; metadata: str -> str, kept in the file.

    notes: what the artist should know of how it was read, a sentence each.
    """

    vectors: dict[str, torch.Tensor]
    metadata: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """The name of its model family: what the file says, else what its encoders alone tell."""
        possible = families.of_encoders(self.vectors)
        told = self.metadata.get("reversion.base_family", "")
        if told in (family.name for family in possible):
            return told
        likely = possible if len(possible) == 1 else [family for family in possible if family.default_for_its_encoders]
        return likely[0].name if likely else "unknown"

    @property
    def initial_word(self) -> str:
        """The word that it started from, as far as the file says."""
        word = self.detail("settings").get("initial_word")
        return word if _is_word(word) else INITIAL_WORD

    def detail(self, name: str) -> dict:
        """What the metadata say under `reversion.NAME`, {} where they say nothing that can be read."""
        try:
            found = json.loads(self.metadata.get(f"reversion.{name}", "{}"))
            json.dumps(found, ensure_ascii=False).encode()  # half characters break whoever shows them
        except (TypeError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def is_of_one_clip(self) -> bool:
        """Whether its numbers alone tell the text encoder: only CLIP's are known by their width, see `foreign`."""
        return len(self.vectors) == 1 and next(iter(self.vectors)).startswith("clip_")

    @property
    def count(self) -> int:
        """How many vectors it has for a text encoder, the most where they differ."""
        return max(len(v) for v in self.vectors.values())


def checked_name(name: str, node: str, input_name: str) -> str:
    """A file name that every system, and the host's `embedding:NAME`, can read. Raises a ReVersionError otherwise."""
    name = name.strip().removesuffix(".safetensors")
    problem = None
    if not _NAME.fullmatch(name):
        problem = f"the name {name[:60]!r} has other characters than letters, digits, - and _"
    elif len(name) > 100:
        problem = "the name is longer than 100 characters"
    elif name.lower() in RESERVED_NAMES:
        problem = f"Windows keeps the name {name!r} for itself"
    elif name.isdigit():
        problem = f"the name {name!r} is a number"
    if problem:
        raise ReVersionError(node, input_name, problem, "choose a name such as 'carved-from'")
    return name


def save(relation: Relation, path: str | Path, replace: bool = True) -> None:
    """Write a relation, whole or not at all, in the layout of the path's suffix. Replaces a file that is there, or
    raises FileExistsError for one.

    .safetensors: the host's, with the metadata, T5's vectors also as OneTrainer and diffusers call them; .pt: A1111's
    WebUI; .bin: diffusers and the authors' `{"<R>": tensor}`, where several vectors are called `<r>`.
    Raises ValueError for the last two, which hold numbers without a name, where these are not of one CLIP.
    """
    tensors = {key: v.detach().float().cpu().contiguous() for key, v in relation.vectors.items()}
    suffix = Path(path).suffix.lower()
    if suffix == ".safetensors":
        # One file for ComfyUI and for those that have other names for some encoders.
        tensors |= {families.OTHER_NAMES[key]: v.clone() for key, v in tensors.items() if key in families.OTHER_NAMES}
        # Not by safetensors' own save_file, whose files only their owner can read.
        data = safetensors_bytes(tensors, {k: str(v) for k, v in relation.metadata.items()})
    else:
        if not relation.is_of_one_clip:
            raise ValueError(
                f"a {suffix} file holds the vectors of one CLIP and {relation.family} has {', '.join(tensors)}"
            )
        (vectors,) = tensors.values()
        word = relation.metadata.get("modelspec.trigger_phrase") or PLACEHOLDER
        # diffusers reads a single vector, as the authors write it, without its first dimension. It puts in the other
        # vectors of a word only where the word is written in lower case.
        content = {word: vectors[0]} if len(vectors) == 1 else {word.lower(): vectors}
        if suffix == ".pt":
            content = {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": Path(path).stem}
        file = io.BytesIO()
        torch.save(content, file)
        data = file.getvalue()
    write_whole(path, data, replace)
    remove_old_partials(Path(path).parent)


def load(path: str | Path, node: str = "ReVersion Load Relation", input_name: str = "relation") -> Relation:
    """Read a relation from an embedding file of this or another program; `foreign` lists what is read.

    What the file is counts, not its suffix. SDXL's vectors in two files are read from either. Pickles are opened with
    `weights_only`, so none of their code runs. Raises a ReVersionError for anything that is not an embedding of a known
    text encoder.
    """
    path = Path(path)
    try:
        tensors, metadata, notes = foreign.read(path)
        other = foreign.other_half(path, tensors)
        if other:
            tensors |= other[1]
            notes.append(f"read together with {other[0]}, which has the other text encoder's vectors")
        vectors = {key: checked_vectors(key, value) for key, value in tensors.items()}
        if tuple(vectors) == ("clip_g",):
            why = "it has the vectors of SDXL's second text encoder alone"
            raise Unreadable(why, "put the file of the first beside it, called as this one without _2")
    except Unreadable as error:
        problem = f"'{path.name}' is not a relation ({error})"
        raise ReVersionError(node, input_name, problem, error.cure) from error
    return Relation(vectors, {"modelspec.title": path.stem, **_sound(metadata)}, tuple(notes))


def _sound(metadata: dict[str, str]) -> dict[str, str]:
    """The metadata without settings of ours that are damaged: nothing that reads them later may stumble."""
    try:
        settings = json.loads(metadata.get("reversion.settings", "{}"))
        sound = isinstance(settings, dict) and _is_word(settings.get("initial_word", INITIAL_WORD))
    except (ValueError, RecursionError):
        sound = False
    return metadata if sound else {k: v for k, v in metadata.items() if k != "reversion.settings"}


def _is_word(value):
    """Whether a value is a text that a tokenizer makes something of."""
    kinds = {unicodedata.category(c) for c in value} if isinstance(value, str) else set()
    return "Cs" not in kinds and any(kind[0] not in "CZ" for kind in kinds)


def checked_vectors(key: str, tensor: torch.Tensor) -> torch.Tensor:
    """float32 [k, d] of an encoder's vectors; raises Unreadable, a ValueError, for a wrong shape or for numbers that
    mean no direction. The shape is looked at before anything is copied.
    """
    cure = foreign.NO_EMBEDDING
    plain = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_complex()
    rows = tensor[None] if plain and tensor.ndim == 1 else tensor
    if not plain or rows.ndim != 2 or not 1 <= len(rows) <= MOST_VECTORS or rows.shape[1] != families.WIDTHS[key]:
        shape = " x ".join(map(str, rows.shape))
        expected = f"1 to {MOST_VECTORS} vectors of {families.WIDTHS[key]}"
        raise Unreadable(f"{key} has shape {shape or 'of one number'} instead of {expected}", cure)
    rows = rows.detach().to(torch.float32, copy=True)
    if not rows.isfinite().all():
        raise Unreadable(f"{key} holds numbers that are not finite", cure)
    if rows.abs().max() > LARGEST_NUMBER:
        raise Unreadable(f"{key} holds numbers as large as {rows.abs().max():.2g}", cure)
    if not rows.any(dim=1).all():
        raise Unreadable(f"{key} holds a vector of zeros", cure)
    return rows.contiguous()


def metadata_for(title: str, family: str, date: str, placeholder: str, details: Mapping[str, object]) -> dict[str, str]:
    """modelspec fields and `reversion.*` (JSON where the value is not text)."""
    fields = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": families.named(family).architecture,
        "modelspec.implementation": "ReVersion for ComfyUI",
        "modelspec.title": title,
        "modelspec.date": date,
        "modelspec.trigger_phrase": placeholder,
        "modelspec.usage_hint": f"Write it between two entities: 'cat {placeholder} stone'.",
        "reversion.format_version": FORMAT_VERSION,
    }
    encoded = {f"reversion.{k}": v if isinstance(v, str) else json.dumps(v) for k, v in details.items()}
    return fields | encoded


def hiding(relation: Relation, path: Path) -> list[Path]:
    """The files of the name of `path` that the host would find before it, in another format, with other numbers."""
    before = SUFFIXES[: SUFFIXES.index(path.suffix)]
    found = (path.with_suffix(suffix) for suffix in before)
    return [other for other in found if other.is_file() and not same_numbers(relation, other)]


def free_path(relation: Relation, path: Path, known: Mapping[str, Sequence[Path]]) -> Path:
    """`path`, or with -2, -3 ... behind its name: the first whose name is free or means this very relation.

    The host's `embedding:NAME` looks for NAME with every suffix in every folder, so a name is free only where none of
    them is taken. known: name -> the files of it, in any folder.
    """

    def free(found: Path) -> bool:
        beside = [other for other in map(found.with_suffix, SUFFIXES) if os.path.lexists(other)]
        return all(same_numbers(relation, other) for other in {*beside, *known.get(found.stem, ())})

    return next(filter(free, numbered(path)))


def same_numbers(relation: Relation, path: str | Path) -> bool:
    """Whether the file holds the vectors of this relation, bit for bit; not where it cannot be read."""
    try:
        saved = load(path).vectors
    except ReVersionError:
        return False
    return saved.keys() == relation.vectors.keys() and all(
        torch.equal(saved[key], relation.vectors[key].float().cpu()) for key in saved
    )
