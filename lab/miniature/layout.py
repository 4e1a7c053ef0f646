"""The second lesson of the miniature: which picture, on average, a caption means.

Attention to the text is slow to begin from denoising alone, where noise hides what it would be good for. So the UNet's
own transformers first look at a learned map of the 8 x 8 places instead of the noised latent, and regress the mean
latent of a caption's drawings.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lab.miniature import checkpoints, denoiser, pool, reading
from lab.miniature.captions import caption

STEPS, CAPTIONS, PEAK = 1000, 24, 7e-4
READING_WEIGHT = 0.05  # reading goes on beside it


class Layout(nn.Module):
    """The denoiser's transformers (shared with it) between a map of places and a linear read-out."""

    def __init__(self, model: denoiser.Denoiser):
        super().__init__()
        self.transformers = nn.ModuleList([model.unet.input_blocks[1][1], model.unet.middle_block[1]])
        channels = denoiser.UNET["model_channels"]
        self.places = nn.Parameter(torch.randn(1, channels, 8, 8) * 0.5)
        self.read_out = nn.Conv2d(channels, 4, 1)

    def forward(self, context: torch.Tensor) -> torch.Tensor:
        """Text features [n, tokens, 768] -> expected latents [n, 4, 8, 8]."""
        h = self.places.expand(len(context), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        for transformer in self.transformers:
            h = transformer(h, context=context)
        return self.read_out(h)


def teach(
    model: denoiser.Denoiser, latents: torch.Tensor, folder: Path, log: Callable[[str], None] = logging.info
) -> None:
    """Teach a fresh denoiser's text encoder and transformers in place; done once and kept in `folder`/layout.pt.

    latents: of the pool, [groups, drawings, 4, 8, 8], on the denoiser's device.
    """
    path = folder / "layout.pt"
    if (saved := checkpoints.load(path)) is not None:
        model.load_state_dict(saved)
        return
    reader = reading.teach(model.text, log)
    lesson, means = Layout(model).to(latents.device), latents.mean(1)
    parameters = [*model.text.parameters(), *lesson.parameters(), *reader.parameters()]
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    variance = float((means - means.mean(0)).square().mean())
    for step in range(STEPS):
        rng = np.random.default_rng((9, step))
        indices = rng.integers(0, len(means), CAPTIONS)
        scenes = [pool.group(i)[0] for i in indices]
        captions = [caption(scene, rng) for scene in scenes]
        rows = denoiser.row_numbers(captions, denoiser.SHORT_TOKENS).to(means.device)
        optimizer.param_groups[0]["lr"] = PEAK * min(1, (step + 1) / 100)
        with torch.autocast(means.device.type, torch.bfloat16):
            features = model.text(rows)
            expected = lesson(features)
        loss = F.mse_loss(expected.float(), means[torch.from_numpy(indices).to(means.device)])
        optimizer.zero_grad()
        (loss + READING_WEIGHT * reader.loss(features, rows, scenes, captions)).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if (step + 1) % 50 == 0:
            log(f"layout {step + 1}/{STEPS}: {1 - loss.item() / variance:.3f} of the variance explained")
    checkpoints.save(path, model.state_dict())
