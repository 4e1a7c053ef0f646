"""Pictures from the host's IMAGE, by the rules of those from files."""

import numpy as np
import torch
from PIL import Image

from ..store.reading import Unreadable
from .pictures import as_rgb, check_pixels, ignore_note

_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def pictures_of(image, say=ignore_note):
    """Yields uint8 [h, w, 3] of each picture in what a node sends as IMAGE.

    image: [n, h, w, c], one [h, w, c], a mask [n, h, w] or a video [n, t, h, w, c]; c is 1 to 4, the last of 2 and 4
    is alpha; float in 0..1, what lies outside is clamped, or uint8. Raises Unreadable for anything else.
    """
    for picture in _batch(image):
        check_pixels(picture.shape[1], picture.shape[0])
        if picture.dtype == torch.uint8:
            values = picture
        else:
            values = picture.float()
            if not values.isfinite().all():
                raise Unreadable("it holds numbers that are not finite", "look at the node that makes it")
            values = (values.clamp(0, 1) * 255).round().to(torch.uint8)
        values = values.cpu().numpy()
        values = values[..., 0] if values.shape[-1] == 1 else values
        yield as_rgb(Image.fromarray(np.ascontiguousarray(values)), say)


def _batch(image):
    """[n, h, w, c] of the shapes that nodes send."""
    if not isinstance(image, torch.Tensor):
        raise Unreadable(f"it is a {type(image).__name__} and not pictures", "connect a node's IMAGE")
    if image.ndim == 5:
        image = image.flatten(0, 1)
    if image.ndim == 3:
        image = image[None] if image.shape[-1] in _MODES else image[..., None]
    sound = image.ndim == 4 and image.shape[-1] in _MODES and image.dtype != torch.bool and not image.is_complex()
    if not sound or not (image.is_floating_point() or image.dtype == torch.uint8):
        shape, kind = " x ".join(map(str, image.shape)), str(image.dtype).removeprefix("torch.")
        cure = "connect an IMAGE: pictures x height x width x colours, in 0 to 1"
        raise Unreadable(f"it has shape {shape or 'of one number'} of {kind}", cure)
    if not len(image):
        raise Unreadable("it is empty", "connect at least one picture")
    return image
