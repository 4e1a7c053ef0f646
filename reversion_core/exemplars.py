"""Exemplars: pictures that share a relation, with captions in which `{}` stands for it."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from .errors import ReVersionError
from .method.words import PLACEHOLDER, SLOT

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
FITS = ("crop", "pad")
LARGEST_SIDE = 1024  # pictures are kept with their shorter side no larger than the largest family trains at


@dataclass(frozen=True, eq=False)
class Exemplars:
    """names [n]; pictures [n], each uint8 [height, width, 3]; captions [n], each a tuple of templates with `{}`.

    size: training size in pixels, 0 for automatic; fit: "crop" the middle square or "pad" to a square.
    """

    names: tuple
    pictures: tuple
    captions: tuple
    size: int = 0
    fit: str = "crop"

    def training_size(self, native):
        """The side of the training pictures: `size`, or the model's native one but never an enlargement."""
        shortest = min(min(p.shape[:2]) for p in self.pictures)
        return self.size or max(min(native, shortest) // 8 * 8, 8)

    def fitted(self, side):
        """Pictures as the model is shown them, float32 [n, side, side, 3] in 0..1."""
        return np.stack(list(self.each_fitted(side)))

    def each_fitted(self, side):
        """The pictures of `fitted`, one at a time: hundreds of them would take gigabytes."""
        for picture in self.pictures:
            yield fit_square(picture, side, self.fit).astype(np.float32) / 255


def fit_square(picture, side, fit):
    """Resize uint8 [h, w, 3] to [side, side, 3] without squashing: crop the middle, or pad with white."""
    image = Image.fromarray(picture)
    if fit == "crop":
        return np.asarray(ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS))
    return np.asarray(ImageOps.pad(image, (side, side), Image.Resampling.LANCZOS, color=(255, 255, 255)))


def open_picture(path):
    """uint8 [h, w, 3] RGB: turned as EXIF says, transparency over white, kept to `LARGEST_SIDE`."""
    with Image.open(path) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB")
    if min(image.size) > LARGEST_SIDE:
        scale = LARGEST_SIDE / min(image.size)
        image = image.resize([round(s * scale) for s in image.size], Image.Resampling.LANCZOS)
    return np.asarray(image)


def template(caption, node, input_name):
    """A caption with exactly one `{}`; `<R>` is taken for it too. Raises a ReVersionError otherwise."""
    text = " ".join(caption.replace(PLACEHOLDER, SLOT).split())
    if text.count(SLOT) != 1:
        problem = "has no {}" if SLOT not in text else "has more than one {}"
        raise ReVersionError(
            node, input_name, f"the caption {caption.strip()!r} {problem}", "write {} once, where the relation stands"
        )
    if not text.replace(SLOT, "").strip():
        raise ReVersionError(
            node, input_name, "a caption is only {}", "name the two entities around it, such as 'cat {} stone'"
        )
    return text


def read_folder(folder, node="ReVersion Load Exemplars", input_name="folder"):
    """Read pictures and captions of a folder: `text.json` ({"0.jpg": ["cat {} stone", ...]}) or `.txt` beside each.

    Returns (names, pictures, captions) sorted by name, numbers in names by value. Raises a ReVersionError that
    names every file that lacks its other half.
    """
    folder = Path(folder)
    paths = sorted((p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES), key=_natural)
    if not paths:
        kinds = ", ".join(s[1:] for s in PICTURE_SUFFIXES)
        raise ReVersionError(
            node, input_name, f"the folder '{folder.name}' has no pictures ({kinds})", "put 4 to 10 exemplars there"
        )
    described = _captions_of(folder, paths, node, input_name)
    names = {p.name for p in paths}
    if without := sorted(names - described.keys()):
        raise ReVersionError(
            node, input_name, f"no caption for {', '.join(without)}", "add it to text.json or a .txt of the same name"
        )
    if strange := sorted(described.keys() - names):
        raise ReVersionError(
            node, input_name, f"captions without a picture: {', '.join(strange)}", "add the picture or take them out"
        )
    captions = tuple(tuple(template(c, node, input_name) for c in described[p.name]) for p in paths)
    return tuple(p.name for p in paths), tuple(_open_or_refuse(p, node, input_name) for p in paths), captions


def _natural(path):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name.lower())]


def _open_or_refuse(path, node, input_name):
    try:
        return open_picture(path)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ReVersionError(
            node, input_name, f"the picture '{path.name}' cannot be read ({error})", "save it again or take it out"
        ) from error


def read_text(path, node, input_name):
    """Text of a file in UTF-8 or UTF-16, with or without a byte order mark; anything else is refused."""
    data = path.read_bytes()
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ReVersionError(node, input_name, f"'{path.name}' is not UTF-8 text", "save it as UTF-8") from error


def _captions_of(folder, paths, node, input_name):
    """File name -> list of captions, from text.json where there is one, else from the .txt files."""
    table = folder / "text.json"
    if not table.exists():
        found = {}
        for text in sorted(folder.glob("*.txt")):
            lines = [line for line in read_text(text, node, input_name).splitlines() if line.strip()]
            owners = [p.name for p in paths if p.stem == text.stem] or [text.name]
            if lines:
                found |= dict.fromkeys(owners, lines)
        return found
    try:
        described = json.loads(read_text(table, node, input_name))
    except json.JSONDecodeError as error:
        raise ReVersionError(
            node, input_name, f"text.json is not valid JSON (line {error.lineno})", "mend that line"
        ) from error
    except RecursionError as error:
        raise ReVersionError(node, input_name, "text.json is not valid JSON (too deep)", "write it anew") from error
    if isinstance(described, dict):
        described = {name: [c] if isinstance(c, str) else c for name, c in described.items()}
    if not isinstance(described, dict) or not all(_is_caption_list(c) for c in described.values()):
        raise ReVersionError(
            node, input_name, "text.json is not a table of captions", 'write it as {"0.jpg": ["cat {} stone"]}'
        )
    return described


def _is_caption_list(value):
    return isinstance(value, list) and value and all(isinstance(caption, str) for caption in value)
