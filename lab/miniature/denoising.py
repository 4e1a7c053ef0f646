"""The last lesson of the miniature: to predict the noise in the latents of the pool, given a caption."""

import copy
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lab.miniature import checkpoints, pool
from lab.miniature.captions import caption
from lab.miniature.denoiser import SHORT_TOKENS, TOKENS, Denoiser, row_numbers

STEPS, DECAY_STEPS, WHOLE_STEPS = 12_000, 4_000, 600


def alphas_cumprod() -> torch.Tensor:
    """alpha-bar of SD 1.x, float32 [1000]: square roots of beta linear from sqrt(0.00085) to sqrt(0.012)."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


def loss_weight(snr: torch.Tensor) -> torch.Tensor:
    """Weight of the noise error by signal-to-noise ratio.

    As if the picture were predicted, but less where the ratio is under 1/4: what is asked there is mostly where the
    entities happen to stand.
    """
    return (1 / snr).clamp(0.02, 4.0)


def training_loss(model: Denoiser, latents: torch.Tensor, step: int, tokens: int, captions: int = 32) -> torch.Tensor:
    """Weighted noise error on one drawing of each of some groups of the pool, a scalar."""
    rng = np.random.default_rng((3, step))
    generator = torch.Generator().manual_seed(step)
    indices = rng.choice(len(latents), captions, p=pool.shares(len(latents)))
    texts = [caption(pool.group(i)[0], rng) for i in indices]
    x0 = latents[indices, rng.integers(0, pool.GROUP, captions)]
    # One draw from each of equal parts of the range. So few latents are pure noise to the eye from t = 700 on, and
    # nearly clean under 100: three quarters of the draws lie between.
    u = (torch.randperm(captions, generator=generator) + torch.rand(captions, generator=generator)) / captions
    t = torch.from_numpy(np.interp(u.numpy(), (0, 0.1, 0.85, 1), (0, 100, 650, 1000))).long().clamp(max=999)
    abar = alphas_cumprod()[t][:, None, None, None]
    noise = torch.randn(x0.shape, generator=generator)
    x_t = abar.sqrt() * x0 + (1 - abar).sqrt() * noise
    # Matrix products in bfloat16 make a step 1.7 times as fast on a CPU that has them, and no worse.
    with torch.autocast(x0.device.type, torch.bfloat16):
        prediction = model(x_t, t.float(), model.text(row_numbers(texts, tokens)))
    error = (prediction.float() - noise).square().mean((1, 2, 3))
    return (loss_weight(abar.flatten() / (1 - abar.flatten())) * error).mean()


def update_average(average: nn.Module, model: nn.Module, step: int, every: int = 4) -> None:
    """Exponential average of the weights, brought up to date every few steps."""
    if (step + 1) % every == 0:
        decay = min(0.998, (1 + step) / (20 + step)) ** every
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


def train(
    model: Denoiser,
    folder: Path,
    latents: torch.Tensor,
    steps: int,
    decay_steps: int = 0,
    whole_window_from: int = 0,
    peak: float = 7e-4,
    log: Callable[[str], None] = logging.info,
) -> Denoiser:
    """Train to `steps` at a constant rate (after a warm-up), with a linear decay over the last `decay_steps`.

    latents: of the pool, [groups, drawings, 4, 8, 8]; whole_window_from: the first step that sees all 77 tokens; peak:
    the constant rate. Resumes from `folder`/denoiser.pt; a decayed run is kept apart, so that a longer one goes on from
    before the decay. Returns the exponential average of the weights.
    """
    average = copy.deepcopy(model).requires_grad_(False)
    # The text encoder has had its lessons: it moves less than the rest.
    optimizer = torch.optim.AdamW(
        [
            {"params": model.unet.parameters(), "scale": 1.0, "weight_decay": 0.01},
            {"params": model.text.parameters(), "scale": 0.3, "weight_decay": 0.0},
        ],
        betas=(0.9, 0.99),
        fused=True,
    )
    path, final = folder / "denoiser.pt", folder / "denoiser_final.pt"
    start = 0
    for candidate in (final, path) if decay_steps else (path,):
        state = checkpoints.load(candidate)
        if state is not None and state["step"] < steps:
            model.load_state_dict(state["model"])
            average.load_state_dict(state["average"])
            optimizer.load_state_dict(state["optimizer"])
            start = state["step"]
            break
    began, losses = time.monotonic(), []
    for step in range(start, steps):
        left = (steps - step) / decay_steps if decay_steps else 1.0
        for group in optimizer.param_groups:
            group["lr"] = group["scale"] * peak * min(1.0, (step + 1) / 300, left)
        tokens = SHORT_TOKENS if step < whole_window_from else TOKENS
        if 0 < step == whole_window_from:
            # Until now the last of the short window's positions stood for all that follow.
            for network in (model, average):
                network.text.position.data[SHORT_TOKENS:] = network.text.position.data[SHORT_TOKENS - 1]
        loss = training_loss(model, latents, step, tokens)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        update_average(average, model, step)
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            rate = (step + 1 - start) / (time.monotonic() - began)
            log(f"denoiser {step + 1}/{steps}: loss {np.mean(losses[-50:]):.4f}, {rate:.2f} steps/s")
        if (step + 1) % 500 == 0 or step + 1 == steps:
            state = {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step + 1,
            }
            decaying = decay_steps and step + 1 > steps - decay_steps
            checkpoints.save(final if decaying else path, state)
    return average
