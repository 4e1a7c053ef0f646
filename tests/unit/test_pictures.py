"""Pictures of every mode, depth and format look as in a viewer, and what is none never harms."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from reversion_core.exemplars import open_picture
from reversion_core.exemplars.pictures import FORMATS, LARGEST_SIDE, LONGEST_SIDE
from reversion_core.store.reading import Unreadable

RAMP = np.linspace(0, 255, 64).round().astype(np.uint8).reshape(8, 8)  # black to white


def grey(values, path, **options):
    Image.fromarray(values).save(path, **options)


def bright(values, light):
    """The same with one value of more than white."""
    values.flat[-1] = light
    return values.astype(np.float32)


def unsigned(values, path):
    """A TIFF of 32 bits without a sign, which Pillow does not write."""
    grey(values.view(np.int32), path)
    entry = struct.pack("<HHIHH", 339, 3, 1, 2, 0)
    assert path.read_bytes().count(entry) == 1
    path.write_bytes(path.read_bytes().replace(entry, struct.pack("<HHIHH", 339, 3, 1, 1, 0)))


DEPTHS = {
    "8 bits.png": lambda path: grey(RAMP, path),
    "16 bits.png": lambda path: grey(RAMP.astype(np.uint16) * 257, path),
    "16 bits.tif": lambda path: grey(RAMP.astype(np.uint16) * 257, path),
    "16 bits.pgm": lambda path: path.write_bytes(b"P5 8 8 65535\n" + (RAMP.astype(">u2") * 257).tobytes()),
    "10 bits.pgm": lambda path: path.write_bytes(b"P5 8 8 1023\n" + (RAMP * (1023 / 255)).astype(">u2").tobytes()),
    "32 bits of 8.tif": lambda path: grey(RAMP.astype(np.int32), path),
    "32 bits of 16.tif": lambda path: grey(RAMP.astype(np.int32) * 257, path),
    "32 bits, full.tif": lambda path: grey(RAMP.astype(np.int32) * 2**22 - 2**20, path),
    "float.tif": lambda path: grey(RAMP.astype(np.float32) / 255, path),
    "float of 8.tif": lambda path: grey(RAMP.astype(np.float32), path),
    "float of 16.tif": lambda path: grey(RAMP.astype(np.float32) * 257, path),
    "float below 0.tif": lambda path: grey(RAMP.astype(np.float32) - 9, path),
    "float, a little above 1.tif": lambda path: grey(bright(RAMP.astype(np.float32) / 255, 1.02), path),
    "float, lights above 1.tif": lambda path: grey(bright(RAMP.astype(np.float32).repeat(2, 0) / 255, 40), path),
    "float around 0.tif": lambda path: grey(RAMP.astype(np.float32) / 255 - 0.005, path),
    "white is zero.tif": lambda path: grey(65535 - RAMP.astype(np.uint16) * 257, path, tiffinfo={262: 0}),
    "32 bits, full, unsigned.tif": lambda path: unsigned(RAMP.astype(np.uint32) * (2**24 + 2**16 + 257), path),
    "palette.png": lambda path: Image.fromarray(RAMP).convert("P").save(path),
    "alpha.png": lambda path: Image.fromarray(RAMP).convert("LA").save(path),
    "rgba.png": lambda path: Image.fromarray(RAMP).convert("RGBA").save(path),
    "cmyk.tif": lambda path: Image.fromarray(RAMP).convert("RGB").convert("CMYK").save(path),
    "hsv.tif": lambda path: Image.fromarray(RAMP).convert("RGB").save(path),
    "lossless.webp": lambda path: Image.fromarray(RAMP).convert("RGB").save(path, lossless=True),
    "jp2.jp2": lambda path: Image.fromarray(RAMP).convert("RGB").save(path),
}  # fmt: skip


@pytest.mark.parametrize("name", DEPTHS)
def test_every_depth_and_mode_looks_as_in_a_viewer(tmp_path, name):
    DEPTHS[name](tmp_path / name)
    notes = []
    found = open_picture(tmp_path / name, notes.append)
    found = found[:: len(found) // 8]
    assert found.shape == (8, 8, 3) and found.dtype == np.uint8
    assert abs(found.astype(int) - RAMP[..., None]).max() <= 2
    assert bool(notes) == any(part in name for part in ("32 bits", "float of", "below", "above"))
    assert all("taken for white" in note or "lightest for white" in note for note in notes)


def test_a_dark_picture_of_16_bits_stays_dark(tmp_path):
    grey(RAMP.astype(np.uint16), tmp_path / "a.png")
    assert open_picture(tmp_path / "a.png").max() <= 1


def test_lab_and_profiles_are_seen_in_srgb(tmp_path):
    image = Image.new("RGB", (8, 8), (200, 40, 60))
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    ImageCms.applyTransform(image, to_lab).save(tmp_path / "lab.tif")
    assert abs(open_picture(tmp_path / "lab.tif")[0, 0].astype(int) - (200, 40, 60)).max() <= 3
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"damaged"):
        image.save(tmp_path / "a.png", icc_profile=profile)
        assert (open_picture(tmp_path / "a.png")[0, 0] == (200, 40, 60)).all()
    # A profile of another name, in which what is stored as red is blue.
    turned = srgb.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    for old, new in ((b"rXYZ", b"...."), (b"bXYZ", b"rXYZ"), (b"....", b"bXYZ")):
        turned = turned.replace(old, new, 1)
    image.save(tmp_path / "a.png", icc_profile=turned)
    assert abs(open_picture(tmp_path / "a.png")[0, 0].astype(int) - (60, 40, 200)).max() <= 2


@pytest.mark.parametrize(
    ("mode", "colour", "options"),
    [
        ("RGBA", (255, 0, 0, 0), {}),
        ("LA", (0, 0), {}),
        ("P", 0, {"transparency": 0}),
        ("P", 0, {"transparency": b"\0"}),
        ("L", 0, {"transparency": 0}),
        ("RGB", (9, 9, 9), {"transparency": (9, 9, 9)}),
        ("I;16", 77, {"transparency": 77}),
        ("1", 0, {"transparency": 0}),
    ],
    ids=str,
)
def test_transparency_lies_over_white(tmp_path, mode, colour, options):
    Image.new(mode, (4, 4), colour).save(tmp_path / "a.png", **options)
    assert (open_picture(tmp_path / "a.png") == 255).all()


def test_exif_turns_the_picture_and_damaged_exif_does_not_matter(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=exif)
    assert open_picture(tmp_path / "a.jpg").shape == (20, 10, 3)
    Image.new("RGB", (20, 10)).save(tmp_path / "b.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert open_picture(tmp_path / "b.jpg").shape == (10, 20, 3)


SAVED = {name: suffixes for name, suffixes in FORMATS.items() if name in Image.registered_extensions().values()}


@pytest.mark.parametrize("name", [name for name in SAVED if name in Image.SAVE and name != "HEIF"])
@pytest.mark.parametrize("suffix", ["right", "wrong"])
def test_what_pillow_reads_is_read_whatever_its_suffix(tmp_path, name, suffix):
    path = tmp_path / (f"a{FORMATS[name][0]}" if suffix == "right" else "a.png")
    Image.new("RGB", (16, 16), "red").save(path, name)
    assert abs(open_picture(path).astype(int) - (255, 0, 0)).max() < 8


@pytest.mark.parametrize(
    "head", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF87", b"II*\0\x08\0\0\0\1\0", b"BM0000"]
)
def test_a_damaged_picture_comes_with_its_cure(tmp_path, head):
    (tmp_path / "a.png").write_bytes(head + b"\1" * 90)
    with pytest.raises(Unreadable) as caught:
        open_picture(tmp_path / "a.png")
    assert "damaged" in str(caught.value) and caught.value.cure == "save it as 8-bit PNG or take it out"


def test_the_first_of_several_pictures_is_used_and_it_is_said(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    notes = []
    for suffix in ("gif", "webp", "png", "tif"):
        frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
        assert open_picture(tmp_path / f"a.{suffix}", notes.append)[0, 0, 0] > 250
    assert notes == [f"a.{suffix} has several pictures; the first is used" for suffix in ("gif", "webp", "png", "tif")]


def test_no_program_is_started_for_a_picture(tmp_path, monkeypatch):
    def started(*arguments, **options):
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.Popen", started)
    monkeypatch.setattr("subprocess.check_call", started)
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "EPS")
    (tmp_path / "x.png").write_bytes(file.getvalue())
    with pytest.raises(Unreadable, match="it is a PostScript or PDF page"):
        open_picture(tmp_path / "x.png")


def declared(width, height):
    """A small PNG whose header says that it is very large."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    data = bytearray(file.getvalue())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (13_000, 13_000)])
def test_the_size_is_looked_at_before_anything_is_decoded(tmp_path, size, monkeypatch):
    (tmp_path / "a.png").write_bytes(declared(*size))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: pytest.fail("it was decoded"))
    with pytest.raises(Unreadable, match="million|exceeds limit"):
        open_picture(tmp_path / "a.png")


@pytest.mark.parametrize("size", [(3000, 2000), (100_000, 20)])
def test_large_pictures_are_kept_small(tmp_path, size):
    Image.new("1", size).save(tmp_path / "a.png")
    notes = []
    height, width, _ = open_picture(tmp_path / "a.png", notes.append).shape
    assert min(height, width) <= LARGEST_SIDE and width <= LONGEST_SIDE
    assert bool(notes) == (size[0] > LONGEST_SIDE)
