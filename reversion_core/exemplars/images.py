"""Pictures from the host's IMAGE, by the rules of those from files."""

import numpy as np
import torch
from PIL import Image

from ..store.reading import Unreadable
from .pictures import as_rgb, check_pixels, ignore_note

MOST_OUTSIDE = 0.01  # of a picture's numbers
BRIGHTEST = 32  # lights of pictures with a high range; numbers above are those of another scale
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def pictures_of(image, say=ignore_note):
    """Yields uint8 [h, w, 3] of each picture in what a node sends as IMAGE.

    image: [n, h, w, c], one [h, w, c], a mask [n, h, w] or a video [n, t, h, w, c]; c is 1 to 4, the last of 2 and 4
    is alpha; float in 0..1, the little that lies outside is clamped, or uint8. Raises Unreadable for anything else,
    also for [3, h, w]: that is likely a picture with its colours first.
    """
    for picture in _batch(image):
        check_pixels(picture.shape[1], picture.shape[0])
        if picture.dtype == torch.uint8:
            values = picture
        else:
            values = picture.float()
            if not values.isfinite().all():
                raise Unreadable("it holds numbers that are not finite", "look at the node that makes it")
            _check_range(values)
            values = (values.clamp(0, 1) * 255).round().to(torch.uint8)
        values = values.cpu().numpy()
        values = values[..., 0] if values.shape[-1] == 1 else values
        yield as_rgb(Image.fromarray(np.ascontiguousarray(values)), say)


def _check_range(values):
    """Raises Unreadable where more than a few numbers lie far outside of 0..1."""
    if (values > 2).float().mean() > MOST_OUTSIDE:
        most = float(values.max())
        cure = (
            f"divide it by {255 if most < 256 else 65535} before" if most > BRIGHTEST else "bring it to 0 to 1 before"
        )
        raise Unreadable(f"its numbers go up to {most:.4g} instead of 1", cure)
    if (values < -0.25).float().mean() > MOST_OUTSIDE:
        least = float(values.min())
        raise Unreadable(
            f"its numbers go down to {least:.4g} instead of 0", "halve it and add 0.5 before, if 0 is grey"
        )


def _batch(image):
    """[n, h, w, c] of the shapes that nodes send."""
    if not isinstance(image, torch.Tensor):
        raise Unreadable(f"it is a {type(image).__name__} and not pictures", "connect a node's IMAGE")
    if image.is_meta or image.layout != torch.strided:
        raise Unreadable("it has no numbers to read", "look at the node that makes it")
    if image.ndim == 5:
        image = image.flatten(0, 1)
    if image.ndim == 3 and (image.shape[0] != 3 or image.shape[-1] in _MODES):  # else likely colours x height x width
        image = image[None] if image.shape[-1] in _MODES else image[..., None]
    sound = image.ndim == 4 and image.shape[-1] in _MODES and image.dtype != torch.bool and not image.is_complex()
    if not sound or not (image.is_floating_point() or image.dtype == torch.uint8):
        shape, kind = " x ".join(map(str, image.shape)), str(image.dtype).removeprefix("torch.")
        cure = "connect an IMAGE: pictures x height x width x colours, in 0 to 1"
        raise Unreadable(f"it has shape {shape or 'of one number'} of {kind}", cure)
    if not len(image):
        raise Unreadable("it is empty", "connect at least one picture")
    return image
