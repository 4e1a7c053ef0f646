"""Files of relations and pictures, by name: their bytes, and what is said of each, None where it is read."""

import io
import json
import os
import pickle
import struct
import zlib

import torch
from PIL import Image
from safetensors.torch import save as safetensors_bytes


class Calls:
    """Pickled, it asks for a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def lying_header(header, data=b""):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


ONE = torch.full((1, 768), 0.02)
ENTRY = {"dtype": "F32", "shape": [1, 768], "data_offsets": [0, 3072]}
NO_RELATION, PICKLED = "is not a relation", "holds more than numbers and was not opened"
RELATION_FILES = {
    "empty.safetensors": (b"", NO_RELATION),
    "garbage.safetensors": (os.urandom(4096), NO_RELATION),
    "huge-header.safetensors": (struct.pack("<Q", 2**60) + b"{}", NO_RELATION),
    "long-header.safetensors": (struct.pack("<Q", 50_000_000) + b"{" * 100, NO_RELATION),
    "past-the-end.safetensors": (lying_header({"clip_l": {**ENTRY, "data_offsets": [0, 2**40]}}), NO_RELATION),
    "short.safetensors": (lying_header({"clip_l": ENTRY}, b"\0" * 100), NO_RELATION),
    "negative.safetensors": (lying_header({"clip_l": {**ENTRY, "shape": [-1, 768]}}, b"\0" * 3072), NO_RELATION),
    "enormous.safetensors": (lying_header({"clip_l": {**ENTRY, "shape": [2**40, 768]}}, b"\0" * 3072), NO_RELATION),
    "no-tensor.safetensors": (lying_header({}), NO_RELATION),
    "list.safetensors": (lying_header([1, 2]), NO_RELATION),
    "nan.safetensors": (safetensors_bytes({"clip_l": ONE * float("nan")}), "not finite"),
    "inf.safetensors": (safetensors_bytes({"clip_l": ONE / 0}), "not finite"),
    "zero.safetensors": (safetensors_bytes({"clip_l": ONE * 0}), "a vector of zeros"),
    "narrow.safetensors": (safetensors_bytes({"clip_l": ONE[:, :300].contiguous()}), "has shape 1 x 300"),
    "many.safetensors": (safetensors_bytes({"clip_l": ONE.repeat(76, 1)}), "has shape 76 x 768"),
    "cube.safetensors": (safetensors_bytes({"clip_l": ONE[None].contiguous()}), "has shape 1 x 1 x 768"),
    "number.safetensors": (safetensors_bytes({"clip_l": torch.tensor(1.0)}), NO_RELATION),
    "integers.safetensors": (safetensors_bytes({"clip_l": ONE.long() + 1}), None),
    "half.safetensors": (safetensors_bytes({"clip_l": ONE.half()}), None),
    "lora.safetensors": (safetensors_bytes({"a.lora_up": ONE, "a.lora_down": ONE + 1}), NO_RELATION),
    "empty.pt": (b"", NO_RELATION),
    "garbage.bin": (b"\x80\x02garbage", NO_RELATION),
    "text.pt": (b"hello", "it is text that begins with"),
    "list.pt": (saved([1, 2]), NO_RELATION),
    "words.bin": (saved({"<R>": "hello"}), NO_RELATION),
    "nested.pt": (saved({"string_to_param": {"*": {"deep": ONE}}}), NO_RELATION),
    "system.bin": (pickle.dumps({"<R>": Calls(os.system, "touch ran")}), PICKLED),
    "eval.pt": (pickle.dumps({"<R>": Calls(eval, "open('ran', 'w')")}), PICKLED),
    "zipped-call.pt": (saved({"<R>": Calls(os.mkdir, "ran")}), PICKLED),
    "zero-stride.pt": (saved({"<R>": ONE[0, :1].expand(10**9)}), "has shape 1 x 1000000000"),
    "page.safetensors": (b"<!DOCTYPE html>", "it is a web page"),
    "pointer.bin": (b"version https://git-lfs.github.com/spec/v1", "it is a pointer of Git LFS"),
    "authors.bin": (saved({"<R>": ONE[0].clone()}), None),
    "webui.pt": (saved({"string_to_token": {"*": 265}, "string_to_param": {"*": ONE}}), None),
}


def png(size=(64, 64), mode="RGB", **options):
    file = io.BytesIO()
    Image.new(mode, size).save(file, **{"format": "PNG", **options})
    return file.getvalue()


def declared(width, height):
    """A small PNG whose header says that it is very large."""
    data = bytearray(png())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


UNREADABLE = "cannot be read"
PICTURES = {
    "empty.png": (b"", UNREADABLE),
    "text.png": (b"hello", UNREADABLE),
    "cut.png": (png()[:60], UNREADABLE),
    "bomb.png": (declared(60_000, 60_000), UNREADABLE),
    "billion.png": (declared(2**31 - 1, 2**31 - 1), UNREADABLE),
    "program.png": (png(format="EPS"), "it is a PostScript or PDF page"),
    "pixel.png": (png((1, 1)), None),
    "strip.png": (png((2000, 3)), None),
    "palette.png": (png(mode="P", transparency=0), None),
    "grey.png": (png(mode="I;16"), None),
    "bits.png": (png(mode="1"), None),
    "print.jpg": (png(mode="CMYK", format="JPEG"), None),
    "a name with spaces.webp": (png(format="WEBP"), None),
    "\u732b.png": (png(), None),
}
