"""Pictures of any format and depth as a viewer shows them: upright, in sRGB, transparency over white, 8 bits."""

import contextlib
import io

import numpy as np
from PIL import Image, ImageCms, ImageOps

from .. import families
from ..store.reading import ANOTHER_FILE, Unreadable, content, open_file

# Only these are opened: some of Pillow's other readers start programs (EPS) or read nothing (stubs).
FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".mpo",),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif", ".avifs"),
    "HEIF": (".heic", ".heif", ".hif"),  # where the plug-in pillow-heif is installed and active
    "JPEG2000": (".jp2", ".j2k", ".jpf", ".jpx", ".j2c"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "TGA": (".tga",),
    "QOI": (".qoi",),
    "PSD": (".psd",),
    "DDS": (".dds",),
    "PCX": (".pcx",),
    "SGI": (".sgi", ".rgb"),
    "ICO": (".ico",),
}
PICTURE_SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
# Pictures too, but not for us: they are named where they lie among exemplars, so that none is missed in silence.
OTHER_PICTURES = frozenset(
    (".jxl", ".svg", ".eps", ".exr", ".hdr", ".xcf", ".kra", ".cr2", ".cr3", ".nef", ".arw", ".dng")
)

PLAIN_FORMAT = "save it as 8-bit PNG or take it out"
LARGEST_FILE = 512 * 2**20  # bytes
LARGEST_PICTURE = 64 * 10**6  # pixels, before any is decoded
LARGEST_SIDE = max(
    family.native_size for family in families.FAMILIES
)  # pictures are kept with their shorter side no larger than the largest family trains at
LONGEST_SIDE = 8 * LARGEST_SIDE


def ignore_note(text):
    """Discard a note."""


def open_picture(path, say=ignore_note):
    """uint8 [h, w, 3] RGB of a picture file. say: called with what is worth knowing of it, a sentence each.

    Raises Unreadable.
    """
    Image.init()
    with open_file(path, LARGEST_FILE) as file:
        head = file.read(64)
        file.seek(0)
        try:
            with Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
                check_pixels(*image.size)
                if getattr(image, "is_animated", False) and image.format != "MPO":
                    say(f"{path.name} has several pictures; the first is used")
                return as_rgb(image, lambda text: say(f"{path.name} {text}"))
        except Image.UnidentifiedImageError as error:
            what, cure = content(head) or ("no picture that can be read", "save it again or take it out")
            if cure == ANOTHER_FILE:
                what, cure = f"{what} that is damaged or of a rare kind", PLAIN_FORMAT
            raise Unreadable(f"it is {what}", cure) from error
        except Unreadable:
            raise
        except Exception as error:  # damaged files raise nearly everything in Pillow
            raise Unreadable(f"it is damaged: {str(error)[:100] or type(error).__name__}", PLAIN_FORMAT) from error


def check_pixels(width, height):
    """Raises Unreadable for a picture that is empty or larger than `LARGEST_PICTURE`."""
    if not width or not height:
        raise Unreadable("it has no pixels")
    if width * height > LARGEST_PICTURE:
        millions = LARGEST_PICTURE // 10**6
        raise Unreadable(f"it has {width} x {height} pixels, more than {millions} million", "make it smaller")


def as_rgb(image, say=ignore_note):
    """uint8 [h, w, 3] of a Pillow image in any mode, kept to `LARGEST_SIDE`."""
    profile = image.info.get("icc_profile")
    _turn_upright(image)
    image = _eight_bits(image, say)
    if image.has_transparency_data:
        image = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return np.asarray(_kept(_srgb(image, profile), say))


def _turn_upright(image):
    image.load()
    with contextlib.suppress(Exception):  # a viewer, too, leaves out EXIF that is damaged
        ImageOps.exif_transpose(image, in_place=True)  # a copy would not know its format any more


def _eight_bits(image, say):
    """Modes of more than 8 bits a channel (I, I;16, F) as L; Pillow itself would cut them off at 255."""
    if not image.mode.startswith(("I", "F")):
        return image
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image)
    if image.mode == "I" and tags.get(258) == (32,) and tags.get(339, (1,)) == (1,):
        values = values.view(np.uint32)  # Pillow takes them for signed
    values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise Unreadable("it holds numbers that are not finite", PLAIN_FORMAT)
    black, white = 0.0, _white(image, values)
    if white is None:
        black, white = values.min(), values.max()
        say("has no fixed white; its darkest value is taken for black and its lightest for white")
    elif not _has_fixed_white(image) and values.max() > 1:
        say(f"has no fixed white; {white:g} is taken for white, and its lightest value is {values.max():.4g}")
    if tags.get(262) == 0:  # white is zero, which Pillow turns around in pictures of 8 bits only
        black, white = white, black
    transparent = image.info.get("transparency")
    opaque = None if transparent is None else Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))
    values -= black  # in place: such pictures are large
    values *= 255 / ((white - black) or 1e-30)
    grey = Image.fromarray(np.rint(values.clip(0, 255, out=values), out=values).astype(np.uint8))
    if opaque:
        grey.putalpha(opaque)
    return grey


def _has_fixed_white(image):
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _white(image, values):
    """The value that a viewer shows as white; None where no rule says it."""
    if _has_fixed_white(image):
        return 2.0 ** getattr(image, "tag_v2", {}).get(258, (16,))[0] - 1
    # A few of 0 to 1 may lie outside, as resizing and lights leave them.
    if image.mode == "F" and (values > 2).mean() < 0.01 and (values < -0.1).mean() < 0.01:
        return 1.0
    if values.min() < 0 or values.max() > 65535:
        return None
    return 255.0 if values.max() <= 255 else 65535.0


def _srgb(image, profile):
    """RGB of an image whose colours are what its profile says; Lab has a profile of its own."""
    try:
        if image.mode == "LAB":
            source = ImageCms.createProfile("LAB")
        elif profile and image.mode in ("L", "RGB", "CMYK"):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "srgb" in ImageCms.getProfileDescription(source).lower():
                return image.convert("RGB")
        else:
            return image.convert("RGB")
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, ImportError, OSError):
        return image.convert("RGB")  # a viewer, too, leaves out a profile that it cannot read


def _kept(image, say):
    scale = min(LARGEST_SIDE / min(image.size), LONGEST_SIDE / max(image.size))
    if scale >= 1:
        return image
    size = [max(round(side * scale), 1) for side in image.size]
    if min(size) < LARGEST_SIDE:
        say(f"is very long and is kept as {size[0]} x {size[1]} pixels")
    return image.resize(size, Image.Resampling.LANCZOS)
