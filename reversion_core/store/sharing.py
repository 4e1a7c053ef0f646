"""What others need of a relation: a picture made with it and how to use it, in its file and beside it."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from .files import write_whole
from .relation import Relation

THUMBNAIL, PREVIEW = 256, 768  # pixels of the longer side: in the file, and of the picture beside it
LONGEST_USAGE = 2000  # characters


def described(relation: Relation, title: str, picture: np.ndarray | None = None, usage: str = "") -> Relation:
    """The relation with a title and, where they are given, a thumbnail and how to use it, as model browsers read them.

    picture: uint8 [h, w, 3]; the fields are those of the modelspec, https://github.com/Stability-AI/ModelSpec.
    """
    fields = {"modelspec.title": title}
    if usage:
        fields["modelspec.usage_hint"] = usage
    if picture is not None:
        data = io.BytesIO()
        _reduced(picture, THUMBNAIL).save(data, "JPEG", quality=85)
        fields["modelspec.thumbnail"] = f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
    return Relation(relation.vectors, relation.metadata | fields)


def write_preview(path: Path, picture: np.ndarray) -> Path:
    """Write a picture, uint8 [h, w, 3], as NAME.preview.png beside a relation's file, where ComfyUI's model browser and
    most managers look for it; returns its path. Raises OSError."""
    data = io.BytesIO()
    _reduced(picture, PREVIEW).save(data, "PNG")
    beside = path.with_name(f"{path.stem}.preview.png")
    write_whole(beside, data.getvalue())
    return beside


def _reduced(picture: np.ndarray, side: int) -> Image.Image:
    image = Image.fromarray(picture)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image
