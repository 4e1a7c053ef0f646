"""The first lesson of the miniature's text encoder: to read captions, without any picture.

From denoising alone it takes very long until words that differ only in their roles ("A above B", "B above A") are told
apart. So the features of the <end> token are first asked, through a linear read-out that is then thrown away, for the
entities, the relation, and which entity comes first in the picture (above, left, inner or in front).
"""

import logging
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lab.miniature import denoiser, placing, world
from lab.miniature.captions import caption

STEPS, CAPTIONS, PEAK = 700, 48, 7e-4
UNSAID = -100
# Relations whose object is the first in the picture.
OBJECT_FIRST = ("below", "right of", "around", "behind")
_COLOURS, _SHAPES = list(world.COLOURS), list(world.SHAPES)
# Subject, relation, object; then the first and the second entity of the picture.
CLASSES = (8, 8, len(world.RELATIONS), 8, 8, 8, 8, 8, 8)


def answers(scene: world.Scene, caption: str) -> list[int]:
    """The nine class numbers that a caption of the scene tells, UNSAID where it does not."""
    words = caption.split()
    entities = [
        [_COLOURS.index(words[i - 1]) if i and words[i - 1] in _COLOURS else UNSAID, _SHAPES.index(word)]
        for i, word in enumerate(words)
        if word in _SHAPES
    ]
    if not entities:
        return [UNSAID] * len(CLASSES)
    subject, object_ = entities
    if "and" in words:
        return [*subject, UNSAID, *object_, *[UNSAID] * 4]
    ordered = [*object_, *subject] if scene.relation in OBJECT_FIRST else [*subject, *object_]
    if scene.relation in world.SYMMETRIC:
        ordered = [UNSAID] * 4
    return [*subject, world.RELATIONS.index(scene.relation), *object_, *ordered]


class Reading(nn.Module):
    """The linear read-out of the <end> token's features."""

    def __init__(self):
        super().__init__()
        self.read_out = nn.Linear(denoiser.WIDTH, sum(CLASSES))

    def loss(
        self, features: torch.Tensor, rows: torch.Tensor, scenes: Sequence[world.Scene], captions: Sequence[str]
    ) -> torch.Tensor:
        """Mean cross-entropy of the answers; features [n, tokens, 768] of row numbers [n, tokens]."""
        at_end = denoiser.at_end(features, rows).float()
        wanted = torch.tensor([answers(s, c) for s, c in zip(scenes, captions, strict=True)], device=rows.device)
        parts = zip(self.read_out(at_end).split(CLASSES, 1), wanted.unbind(1), strict=True)
        return sum(F.cross_entropy(logits, w, ignore_index=UNSAID) for logits, w in parts) / len(CLASSES)


def teach(text: denoiser.TextEncoder, log: Callable[[str], None] = logging.info) -> Reading:
    """Teach a text encoder in place; returns the read-out."""
    lesson, device = Reading().to(text.rows.device), text.rows.device
    parameters = [*text.parameters(), *lesson.parameters()]
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    for step in range(STEPS):
        rng = np.random.default_rng((11, step))
        scenes = [placing.random_scene(rng) for _ in range(CAPTIONS)]
        captions = [caption(scene, rng) for scene in scenes]
        rows = denoiser.row_numbers(captions, denoiser.SHORT_TOKENS).to(device)
        optimizer.param_groups[0]["lr"] = PEAK * min(1, (step + 1) / 50)
        with torch.autocast(device.type, torch.bfloat16):
            features = text(rows)
        loss = lesson.loss(features, rows, scenes, captions)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if (step + 1) % 50 == 0:
            log(f"reading {step + 1}/{STEPS}: loss {loss.item():.3f}")
    return lesson
