"""The pictures that the miniature trains on: groups of scenes, and their latents, made once."""

import functools
import logging

import numpy as np
import torch

from lab.miniature import checkpoints, world

# Relations in which entities hide or surround one another, touch or may stand in several corners take longest to learn.
HARD = ("inside", "around", "behind", "in front of", "far from", "on")
HARD_SHARE = 2.5  # times as often as the others
GROUP = 2  # drawings of the same pair in the same relation
GROUPS = 20_000


@functools.cache
def group(index):
    """The scenes of one group of the training pool: one pair in one relation, drawn `GROUP` times."""
    rng = np.random.default_rng((2, index))
    relation = str(rng.choice(world.WORDLESS if rng.random() < world.WORDLESS_SHARE else world.RELATIONS))
    pair = world.random_pair(rng)
    return [world.arrange(relation, *pair, rng, world.random_background(rng)) for _ in range(GROUP)]


@torch.no_grad()
def encode(stage, folder, groups=GROUPS, log=logging.info):
    """Latents of the training pool, [groups, GROUP, 4, 8, 8], made once and kept."""
    path = folder / "latents.pt"
    if (saved := checkpoints.load(path)) is not None and len(saved) >= groups:
        return saved
    latents = []
    for start in range(0, groups, 64):
        pictures = np.stack([world.render(s) for i in range(start, min(start + 64, groups)) for s in group(i)])
        pictures = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
        with torch.autocast(pictures.device.type, torch.bfloat16):
            latents.append(stage.encode(pictures.contiguous(memory_format=torch.channels_last)).float())
        if start % 2048 == 0:
            log(f"latents {start}/{groups} groups")
    latents = torch.cat(latents).contiguous().unflatten(0, (-1, GROUP))
    checkpoints.save(path, latents)
    return latents


@functools.cache
def shares(groups):
    """How often each group of the pool is drawn, float64 [groups], sum 1."""
    weights = np.array([HARD_SHARE if group(i)[0].relation in HARD else 1.0 for i in range(groups)])
    return weights / weights.sum()
