"""The pack's own socket types, and pictures as the host's IMAGE."""

import numpy as np
import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

ExemplarsSocket = io.Custom("REVERSION_EXEMPLARS")
SteeringSocket = io.Custom("REVERSION_STEERING")
FocalSocket = io.Custom("REVERSION_FOCAL")
RelationSocket = io.Custom("REVERSION_RELATION")

NOTHING = ExecutionBlocker(None)  # an output that has nothing: what it is connected to does not run


def clip_of_relation_input():
    """The input `clip` of a node that reads or uses a relation."""
    return io.Clip.Input(
        "clip", tooltip="The CLIP of the checkpoint that the relation was learned with, or of one like it."
    )


def share_input(name, default, tooltip, step=0.05):
    """A Float widget from 0 to 1."""
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=step, round=False, tooltip=tooltip)


def as_image(picture):
    """PIL image -> IMAGE, float32 [1, h, w, 3] in 0..1."""
    return as_images([np.asarray(picture.convert("RGB"))])


def as_images(pictures):
    """uint8 [h, w, 3] each -> IMAGE, float32 [n, h, w, 3] in 0..1."""
    return torch.from_numpy(np.stack(pictures).astype(np.float32) / 255)
