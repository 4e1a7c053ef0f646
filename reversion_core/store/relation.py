"""The Relation: what was learned, and its file."""

import io
import json
import pickle
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes

from .. import families
from ..errors import ReVersionError
from ..method.words import PLACEHOLDER
from .files import write_whole

FORMAT_VERSION = "1"
LARGEST_FILE = 64 * 2**20  # bytes; a relation of 75 vectors for SDXL has 0.6 MB
# Of files that do not name their encoder; other encoders' widths are not unique.
ENCODER_OF_WIDTH = {families.WIDTHS[key]: key for key in ("clip_l", "clip_h", "clip_g")}
WIDTH_OF_ENCODER = families.WIDTHS
SUFFIXES = (".safetensors", ".pt", ".bin")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
RESERVED_NAMES = frozenset(
    ("con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10)))
)


@dataclass(frozen=True, eq=False)
class Relation:
    """vectors: encoder key of the host (`clip_l`, ...) -> float32 [k, d]; metadata: str -> str, kept in the file."""

    vectors: dict
    metadata: dict = field(default_factory=dict)

    @property
    def family(self):
        """The name of its model family: what the file says, else what its encoders alone tell."""
        told = self.metadata.get("reversion.base_family", "")
        if told in families.NAMES:
            return told
        possible = families.of_encoders(self.vectors)
        # SD 1.x is the only family with CLIP-L alone but SD 3.x, whose files name it.
        return possible[0].name if possible and (len(possible) == 1 or possible[0].proved) else "unknown"

    @property
    def count(self):
        return max(len(v) for v in self.vectors.values())


def checked_name(name, node, input_name):
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


def save(relation, path):
    """Write a relation, whole or not at all, in the layout of the path's suffix. Replaces a file that is there.

    .safetensors: the host's, with the metadata; .pt: A1111's WebUI; .bin: diffusers and the authors' `{"<R>": tensor}`.
    Raises ValueError for a relation of several text encoders in the last two, which hold one.
    """
    tensors = {key: v.detach().float().cpu().contiguous() for key, v in relation.vectors.items()}
    suffix = Path(path).suffix.lower()
    if suffix == ".safetensors":
        # Not by safetensors' own save_file, whose files only their owner can read.
        data = safetensors_bytes(tensors, {k: str(v) for k, v in relation.metadata.items()})
    else:
        if len(tensors) > 1:
            raise ValueError(f"a {suffix} file holds one text encoder's vectors and {relation.family} has two")
        (vectors,) = tensors.values()
        word = relation.metadata.get("modelspec.trigger_phrase", PLACEHOLDER)
        # diffusers reads a single vector of the authors' file without its first dimension.
        content = {word: vectors[0] if len(vectors) == 1 else vectors}
        if suffix == ".pt":
            content = {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": Path(path).stem}
        file = io.BytesIO()
        torch.save(content, file)
        data = file.getvalue()
    write_whole(path, data)


def load(path, node="ReVersion Load Relation", input_name="relation"):
    """Read a relation from safetensors, the authors' `{"<R>": tensor}` .bin or an A1111 .pt.

    Pickles are opened with `weights_only`, so none of their code runs. Raises a ReVersionError for anything that is
    not an embedding of a known text encoder.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError("it is far too large for an embedding")
        if path.suffix.lower() == ".safetensors":
            with safe_open(path, framework="pt", device="cpu") as file:
                found, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
        else:
            found, metadata = torch.load(path, map_location="cpu", weights_only=True), {}
        vectors = _vectors_of(found)
    except pickle.UnpicklingError as error:
        raise ReVersionError(
            node, input_name, f"'{path.name}' holds more than numbers and was not opened", "use a safetensors file"
        ) from error
    except (OSError, ValueError, RuntimeError, EOFError, KeyError, SafetensorError) as error:
        said = "it is damaged" if isinstance(error, KeyError) else str(error) or "it is empty"
        reason = said.splitlines()[0][:120]
        raise ReVersionError(
            node, input_name, f"'{path.name}' is no relation ({reason})", "choose an embedding of SD 1.x, 2.x or SDXL"
        ) from error
    return Relation(vectors, {"modelspec.title": path.stem, **metadata})


def _vectors_of(found):
    """Encoder key -> float32 [k, d] from the layouts that are about."""
    if not isinstance(found, dict):
        raise ValueError("unknown layout")
    if isinstance(found.get("string_to_param"), dict):  # A1111
        found = found["string_to_param"]
    tensors = {str(key): value for key, value in found.items() if isinstance(value, torch.Tensor)}
    if known := {key: value for key, value in tensors.items() if key in WIDTH_OF_ENCODER}:
        tensors = known
    elif len(tensors) == 1:  # {"<R>": ...}, {"*": ...}, {"emb_params": ...}
        (tensor,) = tensors.values()
        tensors = {ENCODER_OF_WIDTH.get(tensor.shape[-1], "clip_l"): tensor} if tensor.ndim else {}
    else:
        tensors = {}
    vectors = {key: checked_vectors(key, value) for key, value in tensors.items()}
    if not vectors:
        raise ValueError("no embedding found")
    return vectors


def checked_vectors(key, tensor):
    """float32 [k, d] of an encoder's vectors; raises ValueError for a wrong shape or numbers that mean no direction."""
    tensor = tensor.detach().float()
    tensor = tensor[None] if tensor.ndim == 1 else tensor
    if tensor.ndim != 2 or not 1 <= len(tensor) <= 75 or tensor.shape[1] != WIDTH_OF_ENCODER[key]:
        shape = " x ".join(map(str, tensor.shape))
        raise ValueError(f"{key} has shape {shape} instead of 1 to 75 vectors of {WIDTH_OF_ENCODER[key]}")
    if not tensor.isfinite().all():
        raise ValueError(f"{key} holds numbers that are not finite")
    if not tensor.any(dim=1).all():
        raise ValueError(f"{key} holds a vector of zeros")
    return tensor.clone()


def metadata_for(title, family, date, placeholder, details):
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


def same_numbers(relation, path):
    """Whether the file holds the vectors of this relation, bit for bit."""
    saved = load(path).vectors
    return saved.keys() == relation.vectors.keys() and all(
        torch.equal(saved[key], relation.vectors[key].float().cpu()) for key in saved
    )
