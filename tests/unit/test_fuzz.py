"""Thousands of damaged files, the same at every run: each reader gives a value or its own sentence, nothing else."""

import io
import json
import random
import warnings

import pytest
import torch
from PIL import Image
from safetensors.torch import save as safetensors_bytes

from reversion_core.errors import ReVersionError
from reversion_core.exemplars import open_picture, read_folder
from reversion_core.prompts import grid as prompt_grid
from reversion_core.store import relation
from reversion_core.store.reading import Unreadable

ODD = (b"\0", b"\xff" * 4, b"\x80\x02", b"{}", b'"', b"[" * 50, b"PK\x03\x04", b"9" * 30, b"\n", b"\xed\xa0\x80")


def mutated(data, rng):
    """The bytes with one to four changes: bits, cuts, repeats, odd pieces, exchanged parts."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place, length = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 16, 200))
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[place % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[place : place + length]
        elif kind == 2:
            data[place:place] = rng.choice(ODD)
        elif kind == 3:
            data[place : place + length] = rng.randbytes(length)
        elif kind == 4:
            data[place:place] = data[place : place + length] * rng.choice((1, 3))
        elif rng.random() < 0.3:
            del data[place:]
    return bytes(data)


def saved(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


VECTORS = torch.randn(2, 768, generator=torch.Generator().manual_seed(0))
WEBUI = {"string_to_token": {"*": 265}, "string_to_param": torch.nn.ParameterDict({"*": VECTORS}), "step": 3}
EMBEDDINGS = {
    "ours.safetensors": safetensors_bytes({"clip_l": VECTORS}, {"reversion.settings": '{"initial_word": "and"}'}),
    "webui.pt": saved(WEBUI),
    "authors.bin": saved({"<R>": VECTORS[0]}),
    "old.bin": saved({"<R>": VECTORS}, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_embedding_files(tmp_path, name):
    rng, read = random.Random(name), 0
    for _ in range(500):
        (tmp_path / name).write_bytes(mutated(EMBEDDINGS[name], rng))
        try:
            loaded = relation.load(tmp_path / name)
            assert loaded.vectors["clip_l"].isfinite().all()
            read += 1
        except ReVersionError as error:
            assert f"'{name}' is not a relation (" in str(error)
    assert 0 < read < 500


def picture(kind, mode="RGB", **options):
    file = io.BytesIO()
    Image.effect_noise((24, 16), 60).convert(mode).save(file, kind, **options)
    return file.getvalue()


PICTURES = {
    "PNG": picture("PNG", "RGBA"),
    "JPEG": picture("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"),
    "GIF": picture("GIF", "P"),
    "TIFF": picture("TIFF", "I;16", compression="tiff_lzw"),
    "WEBP": picture("WEBP"),
    "BMP": picture("BMP"),
    "PPM": picture("PPM", "L"),
    "TGA": picture("TGA", compression="tga_rle"),
    "AVIF": picture("AVIF", speed=10),
    "QOI": picture("QOI"),
    "PSD": b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\4\0\0\0\4\0\x08\0\3" + bytes(14) + bytes(48),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures(tmp_path, kind):
    rng, path, read = random.Random(kind), tmp_path / "a.png", 0
    for _ in range(150):
        path.write_bytes(mutated(PICTURES[kind], rng))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = open_picture(path)
            assert found.ndim == 3 and found.shape[2] == 3 and found.size
            read += 1
        except Unreadable as error:
            assert str(error).startswith("it ")
    assert 0 < read < 150


CAPTIONS = {
    "text.json": json.dumps({"a.png": ["cat {} stone"], "b.png": ["dog \u732b {} wood", "a dog {} a log"]}, indent=1),
    "metadata.jsonl": '{"file_name": "a.png", "text": "cat {} stone"}\n{"file_name": "b.png", "text": "dog {} wood"}\n',
    "captions.csv": "file_name,text\na.png,cat {} stone\nb.png,\"dog {} wood, at night\"\n",
    "all.txt": "a.png: cat {} stone\nb.png: dog {} wood\n",
    "a.txt": "cat {} stone\n\na cat <R> a stone\n",
}  # fmt: skip


@pytest.mark.parametrize("name", CAPTIONS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_captions(tmp_path, name, encoding):
    rng, read = random.Random(name), 0
    for picture_name in ("a.png", "b.png"):
        Image.new("L", (8, 8)).save(tmp_path / picture_name)
    if name == "a.txt":
        (tmp_path / "b.txt").write_text("dog {} wood")
    for _ in range(120):
        (tmp_path / name).write_bytes(mutated(CAPTIONS[name].encode(encoding), rng))
        try:
            found = read_folder(tmp_path)
            assert all(caption.count("{}") == 1 for of_one in found.captions for caption in of_one)
            "\n".join([*found.notes, *found.names]).encode()
            read += 1
        except ReVersionError as error:
            assert str(error).startswith("ReVersion Load Exemplars, input 'folder': ") and "\n" not in str(error)
            str(error).encode()
    assert 0 < read < 120


def test_lists_of_prompts(tmp_path):
    rng, path, read = random.Random(0), tmp_path / "lists.json", 0
    data = json.dumps({"relations": {"on": {"subjects": ["cat", "dog"], "objects": ["stone"]}}}).encode()
    for _ in range(500):
        path.write_bytes(mutated(data, rng))
        try:
            for lists in prompt_grid.read_prompt_lists(path).values():
                prompt_grid.file_names(prompt_grid.grid("{subject} <R> {object}", lists["subjects"], lists["objects"]))
            read += 1
        except Unreadable as error:
            str(error).encode()
    assert 0 < read < 500
