"""What the miniature trains on: groups of scenes of one pair in one relation, their pictures, captions and latents."""

import itertools
import logging
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from lab.miniature import denoiser, placing, world
from lab.miniature.captions import caption
from lab.miniature.first_stage import FirstStage

# Relations in which entities hide or surround one another, touch or may stand in several corners take longest to learn.
HARD = ("inside", "around", "behind", "in front of", "far from", "on")
HARD_SHARE = 2.5  # times as often as the others
GROUP = 2  # drawings of the same pair in the same relation
CAPTIONS = 8  # of one group
GROUPS = 20_000
_CHUNK = 200  # groups that one process draws at a time


def group(index: int) -> list[world.Scene]:
    """The scenes of one group of the training pool: one pair in one relation, drawn `GROUP` times."""
    rng = np.random.default_rng((2, index))
    relation = world.random_relation(rng)
    pair = world.random_pair(rng)
    return [placing.arrange(relation, *pair, rng, world.random_background(rng)) for _ in range(GROUP)]


@dataclass(frozen=True)
class Pictures:
    """The pool before the first stage. pictures, uint8 [groups, GROUP, side, side, 3]; entities, bool [groups, GROUP,
    side, side], the pixels of the entities; captions, uint8 [groups, CAPTIONS, 16], row numbers of tokens; shares,
    float32 [groups], how often each group is to be drawn."""

    pictures: torch.Tensor
    entities: torch.Tensor
    captions: torch.Tensor
    shares: torch.Tensor


def _drawn(start: int, scale: int) -> tuple[np.ndarray, ...]:
    """`Pictures` of one chunk, as arrays."""
    pictures, entities, captions, shares = [], [], [], []
    for index in range(start, start + _CHUNK):
        scenes, rng = group(index), np.random.default_rng((3, index))
        pictures.append([world.render(scene, scale) for scene in scenes])
        placed = [[world.coverage(each, scale) for each in (s.subject, s.object)] for s in scenes]
        entities.append([np.maximum(*both) >= 0.5 for both in placed])
        texts = [caption(scenes[0], rng) for _ in range(CAPTIONS)]
        captions.append(denoiser.row_numbers(texts, denoiser.SHORT_TOKENS).numpy())
        shares.append(HARD_SHARE if scenes[0].relation in HARD else 1.0)
    return np.array(pictures), np.array(entities), np.array(captions, np.uint8), np.array(shares, np.float32)


def draw(groups: int = GROUPS, scale: int = 1) -> Pictures:
    """Draw the pool on all cores, in pictures `scale` times 64 pixels wide. groups: a multiple of 200."""
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        chunks = list(workers.map(_drawn, range(0, groups, _CHUNK), itertools.repeat(scale)))
    return Pictures(*(torch.from_numpy(np.concatenate(parts)) for parts in zip(*chunks, strict=True)))


@dataclass(frozen=True)
class Pool:
    """latents, float32 [groups, GROUP, channels, h, w]; captions and shares as in `Pictures`; all on one device."""

    latents: torch.Tensor
    captions: torch.Tensor
    shares: torch.Tensor

    def draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents [count, channels, h, w] and row numbers of captions, int64 [count, 16]; groups by their shares."""
        device = self.latents.device
        groups = torch.multinomial(self.shares, count, replacement=True, generator=generator)
        drawing, text = (
            torch.randint(n, (count,), generator=generator, device=device) for n in (self.latents.shape[1], CAPTIONS)
        )
        return self.latents[groups, drawing], self.captions[groups, text].long()


@torch.no_grad()
def encode(stage: FirstStage, drawn: Pictures, device: torch.device, log: Callable[[str], None] = logging.info) -> Pool:
    """The pool's latents on a device, with a first stage that is there."""
    latents = []
    for start in range(0, len(drawn.pictures), 64):
        pictures = drawn.pictures[start : start + 64].flatten(0, 1).to(device).permute(0, 3, 1, 2).float() / 255
        with torch.autocast(device.type, torch.bfloat16):
            encoded = stage.encode(pictures.contiguous(memory_format=torch.channels_last))
        latents.append(encoded.float())
        if start % 4096 == 0:
            log(f"latents {start}/{len(drawn.pictures)} groups")
    latents = torch.cat(latents).contiguous().unflatten(0, (-1, GROUP))
    return Pool(latents, drawn.captions.to(device), drawn.shares.to(device))
