"""The last lesson of the miniature: to predict the noise in the latents of the pool, given a caption."""

import copy
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lab.harness.reference import alphas_cumprod
from lab.miniature import checkpoints
from lab.miniature.denoiser import SHORT_TOKENS, TOKENS, Denoiser
from lab.miniature.pool import Pool

STEPS, DECAY_STEPS, WHOLE_STEPS = 12_000, 4_000, 600


def loss_weight(snr: torch.Tensor) -> torch.Tensor:
    """Weight of the noise error by signal-to-noise ratio.

    As if the picture were predicted, but less where the ratio is under 1/4: what is asked there is mostly where the
    entities happen to stand.
    """
    return (1 / snr).clamp(0.02, 4.0)


def evenly_drawn(count: int, generator: torch.Generator) -> torch.Tensor:
    """Numbers in 0..1, float32 [count] on the generator's device: one from each of equal parts, in random order."""
    device = generator.device
    shuffled = torch.randperm(count, generator=generator, device=device)
    return (shuffled + torch.rand(count, generator=generator, device=device)) / count


def training_timesteps(count: int, generator: torch.Generator) -> torch.Tensor:
    """Timesteps, int64 [count] on the generator's device, one from each of equal parts of their distribution.

    So few latents are pure noise to the eye from t = 700 on, and nearly clean under 100, that three quarters of the
    draws lie between.
    """
    u = evenly_drawn(count, generator)
    bent = torch.where(
        u < 0.1, 1000 * u, torch.where(u < 0.85, 100 + (u - 0.1) * 550 / 0.75, 650 + (u - 0.85) * 350 / 0.15)
    )
    return bent.long().clamp(max=999)


def whole_window(rows: torch.Tensor) -> torch.Tensor:
    """Row numbers [n, 16] -> [n, 77], padded with <end>, which each of them ends with."""
    return torch.cat([rows, rows[:, -1:].expand(-1, TOKENS - SHORT_TOKENS)], 1)


def training_loss(model: Denoiser, pool: Pool, tokens: int, captions: int, generator: torch.Generator) -> torch.Tensor:
    """Weighted noise error on one drawing of each of some groups of the pool, a scalar."""
    x0, rows = pool.draw(captions, generator)
    t = training_timesteps(captions, generator)
    abar = alphas_cumprod().float().to(t.device)[t][:, None, None, None]
    noise = torch.randn(x0.shape, generator=generator, device=x0.device)
    x_t = abar.sqrt() * x0 + (1 - abar).sqrt() * noise
    if tokens == TOKENS:
        rows = whole_window(rows)
    # Matrix products in bfloat16 make a step 1.7 times as fast on a CPU that has them, and no worse.
    with torch.autocast(x0.device.type, torch.bfloat16):
        prediction = model(x_t, t.float(), model.text(rows))
    error = (prediction.float() - noise).square().mean((1, 2, 3))
    return (loss_weight(abar.flatten() / (1 - abar.flatten())) * error).mean()


def update_average(average: nn.Module, model: nn.Module, step: int, every: int = 4) -> None:
    """Exponential average of the weights, brought up to date every few steps."""
    if (step + 1) % every == 0:
        decay = min(0.998, (1 + step) / (20 + step)) ** every
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


def parameter_groups(model: Denoiser) -> list[dict]:
    """The optimizer's groups. The text encoder has had its lessons: it moves less than the rest."""
    return [
        {"params": model.unet.parameters(), "scale": 1.0, "weight_decay": 0.01},
        {"params": model.text.parameters(), "scale": 0.3, "weight_decay": 0.0},
    ]


def widen(model: Denoiser) -> None:
    """Until the whole window is seen, the last of the short window's positions stands for all that follow."""
    model.text.position.data[SHORT_TOKENS:] = model.text.position.data[SHORT_TOKENS - 1]


@dataclass(frozen=True)
class Lesson:
    """What a network is taught. loss(model, pool, tokens, captions, generator) -> a scalar; parameter_groups(model) ->
    the optimizer's groups, each with a `scale` of the rate; widen(model), called before the whole window is seen."""

    loss: Callable[..., torch.Tensor] = training_loss
    parameter_groups: Callable[[nn.Module], list[dict]] = parameter_groups
    widen: Callable[[nn.Module], None] = widen


def _resumed(paths: Iterable[Path], steps: int, parts: dict[str, Any]) -> int:
    """Load the first saved state that has fewer than `steps` steps into the parts; returns its steps, else 0.

    One whose rate has begun to fall has to be on its way to as many steps.
    """
    for path in paths:
        state = checkpoints.load(path)
        if state is not None and state["step"] < steps and state.get("decays_to", steps) == steps:
            for name, part in parts.items():
                part.load_state_dict(state[name])
            return state["step"]
    return 0


def _update(model: nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor, rate: float) -> None:
    """One update of the weights; rate: of a group whose scale is 1."""
    for group in optimizer.param_groups:
        group["lr"] = group["scale"] * rate
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def train(
    model: nn.Module,
    pool: Pool,
    folder: Path,
    steps: int,
    decay_steps: int = 0,
    whole_window_from: int = 0,
    captions: int = 32,
    peak: float = 7e-4,
    keep_every: int = 500,
    lesson: Lesson = Lesson(),  # noqa: B008
    log: Callable[[str], None] = logging.info,
) -> nn.Module:
    """Train to `steps` at a constant rate (after a warm-up), with a linear decay over the last `decay_steps`.

    pool: its device is the training's; whole_window_from: the first step that sees all 77 tokens; captions: of a step;
    peak: the constant rate. Resumes from `folder`/denoiser.pt, which is written every `keep_every` steps; a decayed
    run is kept apart, so that a longer one goes on from before the decay. Returns the exponential average of the
    weights.
    """
    device = pool.latents.device
    model = model.to(device)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(lesson.parameter_groups(model), betas=(0.9, 0.99), fused=True)
    parts = {"model": model, "average": average, "optimizer": optimizer}
    path, final = folder / "denoiser.pt", folder / "denoiser_final.pt"
    start = _resumed((final, path) if decay_steps else (path,), steps, parts)
    generator = torch.Generator(device)
    began, total = time.monotonic(), torch.zeros((), device=device)
    for step in range(start, steps):
        tokens = SHORT_TOKENS if step < whole_window_from else TOKENS
        if 0 < step == whole_window_from:
            for network in (model, average):
                lesson.widen(network)
        loss = lesson.loss(model, pool, tokens, captions, generator.manual_seed(step))
        left = (steps - step) / decay_steps if decay_steps else 1.0
        _update(model, optimizer, loss, peak * min(1.0, (step + 1) / 300, left))
        update_average(average, model, step)
        total += loss.detach()
        if (step + 1) % 50 == 0:
            rate = (step + 1 - start) / (time.monotonic() - began)
            log(f"denoiser {step + 1}/{steps}: loss {total.item() / 50:.4f}, {rate:.2f} steps/s")
            total.zero_()
        if (step + 1) % keep_every == 0 or step + 1 == steps:
            decaying = decay_steps and step + 1 > steps - decay_steps
            state = {name: part.state_dict() for name, part in parts.items()} | {"step": step + 1}
            state |= {"decays_to": steps} if decaying else {}
            checkpoints.save(final if decaying else path, state)
    return average
