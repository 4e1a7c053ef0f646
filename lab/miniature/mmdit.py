"""The SD 3 form of the miniature: an MMDiT over the 16-channel latents of pictures of 128 x 128 pixels.

Its text encoder is the SD 1 form's as it stands: SD 3 reads CLIP-L one layer before the end and without the last
normalisation, which in the miniature is what its two trained layers give.
"""

import dataclasses
import functools
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from lab.harness import comfyui
from lab.miniature import checkpoints, denoiser, denoising
from lab.miniature.denoising import Lesson, evenly_drawn, whole_window
from lab.miniature.pool import Pool

DEPTH, WIDTH = 4, 256
LAYOUT_STEPS = 1500
PLACES = 12  # a side, of the positions that the network knows: pictures of up to 192 pixels
CONTEXT_WIDTH, POOLED_WIDTH = 4096, 2048  # of CLIP-L, CLIP-G and T5 together; of both CLIPs


def settings(depth: int, places: int, **more) -> dict:
    """The host's parameters of an MMDiT of SD 3; depth: blocks, 64 wide each; places: a side, of known positions."""
    return {
        "in_channels": 16,
        "out_channels": 16,
        "patch_size": 2,
        "depth": depth,
        "input_size": None,
        "adm_in_channels": POOLED_WIDTH,
        "context_embedder_config": {
            "target": "torch.nn.Linear",
            "params": {"in_features": CONTEXT_WIDTH, "out_features": 64 * depth},
        },
        "num_patches": places**2,
        "pos_embed_max_size": places,
        "pos_embed_scaling_factor": None,
        **more,
    }


SHIFT = 3.0  # of SD 3's noise levels
# Weights whose further columns meet nothing but zeros, and how many columns they have in the host: kept without those.
PADDED = {"context_embedder.weight": CONTEXT_WIDTH, "y_embedder.mlp.0.weight": POOLED_WIDTH}


def build() -> nn.Module:
    """The host's MMDiT, initialised for training: every block starts as the identity."""
    comfyui.make_importable()
    from comfy.ldm.modules.diffusionmodules import mmdit

    network = mmdit.OpenAISignatureMMDITWrapper(
        **settings(DEPTH, PLACES, qk_norm="rms"), dtype=torch.float32, operations=denoiser.PlainOperations
    )
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        if "adaLN_modulation" in name and isinstance(module, nn.Linear) or name == "final_layer.linear":
            nn.init.zeros_(module.weight)
        if name.endswith(("ln_q", "ln_k")):
            nn.init.ones_(module.weight)
    places = mmdit.get_2d_sincos_pos_embed(WIDTH, PLACES)
    network.pos_embed.copy_(torch.from_numpy(places).float()[None])
    return network


class Denoiser(nn.Module):
    """A frozen text encoder and the MMDiT; `forward` predicts the velocity, noise less latents."""

    def __init__(self, text: denoiser.TextEncoder):
        super().__init__()
        self.text = text.requires_grad_(False)
        self.mmdit = build()

    @torch.no_grad()
    def standardise(self, rows: torch.Tensor) -> None:
        """Start with text of zero mean and unit variance in each number, over the row numbers [n, tokens].

        A few numbers of the stream are a thousand times as large as the others. What is padded to SD 3's width has no
        weights to learn.
        """
        features = self.encode(rows)[0][..., : denoiser.WIDTH].flatten(0, 1)
        embedder = self.mmdit.context_embedder
        weight = torch.randn_like(embedder.weight[:, : denoiser.WIDTH]) * denoiser.WIDTH**-0.5 / features.std(0)
        embedder.weight.zero_()
        embedder.weight[:, : denoiser.WIDTH] = weight
        embedder.bias.copy_(-weight @ features.mean(0))

    @torch.no_grad()
    def encode(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Row numbers, int64 [n, tokens] -> features [n, tokens, 4096] and pooled features [n, 2048], as SD 3's."""
        x = self.text.stream(rows)
        pooled = self.text.final_layer_norm(denoiser.at_end(x, rows))
        x = x / denoiser.STREAM_SCALE
        return tuple(F.pad(t, (0, n - t.shape[-1])) for t, n in ((x, CONTEXT_WIDTH), (pooled, POOLED_WIDTH)))

    def export(self) -> dict[str, torch.Tensor]:
        """State dict of the MMDiT, without the columns that only meet zeros."""
        state = self.mmdit.state_dict()
        return {name: t[:, : denoiser.WIDTH] if name in PADDED else t for name, t in state.items()}

    def forward(self, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        """Noised latents [n, 16, h, w], timesteps [n] of 0 .. 1000 -> velocity of the latents' shape."""
        attention = functools.partial(_attention, padded=context.shape[1] == denoiser.SHORT_TOKENS)
        options = {"optimized_attention_override": attention}
        return self.mmdit(x, t, context=context, y=pooled, transformer_options=options)


def _attention(_, q, k, v, heads, padded, **kwargs):
    q, k, v = (x.flatten(2).unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return denoiser.attention(q, k, v, padded)


def sigmas(count: int, generator: torch.Generator) -> torch.Tensor:
    """Noise levels of SD 3, float32 [count] on the generator's device: one from each of equal parts of them."""
    u = evenly_drawn(count, generator)
    return SHIFT * u / (1 + (SHIFT - 1) * u)


def training_loss(model: Denoiser, pool: Pool, tokens: int, captions: int, generator: torch.Generator) -> torch.Tensor:
    """Squared error of the velocity on one drawing of each of some groups of the pool, a scalar."""
    x0, rows = pool.draw(captions, generator)
    sigma = sigmas(captions, generator)
    noise = torch.randn(x0.shape, generator=generator, device=x0.device)
    x_t = torch.lerp(x0, noise, sigma[:, None, None, None])
    if tokens == denoiser.TOKENS:
        rows = whole_window(rows)
    with torch.autocast(x0.device.type, torch.bfloat16):
        velocity = model(x_t, 1000 * sigma, *model.encode(rows))
    return F.mse_loss(velocity.float(), noise - x0)


def layout_loss(model: Denoiser, pool: Pool, tokens: int, captions: int, generator: torch.Generator) -> torch.Tensor:
    """Squared error of the mean latents of some groups of the pool, told from their captions alone: a scalar.

    The network looks at nothing (zeros, at the highest noise level), and its velocity is the mean picture with the sign
    turned.
    """
    x0, rows = pool.draw(captions, generator)
    with torch.autocast(x0.device.type, torch.bfloat16):
        t = torch.full((captions,), 1000.0, device=x0.device)
        velocity = model(torch.zeros_like(x0), t, *model.encode(rows))
    return F.mse_loss(velocity.float(), -x0)


def parameter_groups(model: Denoiser) -> list[dict]:
    """The optimizer's group: the MMDiT alone."""
    return [{"params": list(model.mmdit.parameters()), "scale": 1.0, "weight_decay": 0.01}]


LESSON = Lesson(training_loss, parameter_groups, lambda model: None)


def teach_layout(model: Denoiser, pool: Pool, folder: Path) -> None:
    """Teach a fresh MMDiT in place which picture, on average, a caption means; done once and kept in `folder`.

    As for the SD 1 form (see `layout`): attention to the text is slow to begin from denoising alone.
    """
    path = folder / "layout.pt"
    if (saved := checkpoints.load(path)) is None:
        means = dataclasses.replace(pool, latents=pool.latents.mean(1, keepdim=True))
        lesson = dataclasses.replace(LESSON, loss=layout_loss)
        denoising.train(model, means, folder / "layout", LAYOUT_STEPS, whole_window_from=LAYOUT_STEPS, lesson=lesson)
        saved = model.state_dict()
        checkpoints.save(path, saved)
    model.load_state_dict(saved)
