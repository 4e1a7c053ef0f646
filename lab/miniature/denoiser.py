"""The miniature's text encoder and UNet, and their training.

Both are members of the SD 1.x family: a CLIP-L whose first two layers are trained (the other ten are the identity) and
a UNet of one level, 320 channels wide. The training form is lighter than what the host loads, and exports to exactly
the same function: only the embedding rows of used words are parameters, and some 3 x 3 convolutions train their
centre only.
"""

import copy
import functools
import logging
import math
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lab.harness import comfyui
from lab.miniature import checkpoints, pool, world

WIDTH, HEADS, LAYERS, TOKENS = 768, 12, 2, 77
# The first part of the training sees the window of tokens only up to here, since no caption is longer. The last of
# them stands for all the padding that follows it in the host's window: its weight in the UNet's attention is theirs.
SHORT_TOKENS = 16
UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [1],
    "channel_mult": [1],
    "transformer_depth": [2],
    "transformer_depth_middle": 2,
    "transformer_depth_output": [0, 0],
    "context_dim": WIDTH,
    "num_heads": 8,
    "use_spatial_transformer": True,
    "legacy": False,
}
# Convolutions of which only the centre is trained: three layers of 3 x 3 see the whole 8 x 8 latent already.
CENTRE_ONLY = (
    "middle_block.0.out_layers.3",
    "middle_block.2.in_layers.2",
    "middle_block.2.out_layers.3",
    "output_blocks.0.0.in_layers.2",
    "output_blocks.0.0.out_layers.3",
    "output_blocks.1.0.in_layers.2",
)
STEPS, DECAY_STEPS, WHOLE_STEPS = 12_000, 4_000, 600


# CLIP's embeddings are so small (0.014 a number) that the first updates of the layers would drown them. So the text
# encoder is trained with everything on its residual stream this much larger, and divided again on export; only the
# epsilon of the normalisations would notice, and it is scaled too.
STREAM_SCALE = 8.0


def _layer_norm():
    return nn.LayerNorm(WIDTH, eps=1e-5 * STREAM_SCALE**2)


class TextLayer(nn.Module):
    """A CLIP text layer under the keys of Hugging Face's CLIP."""

    def __init__(self):
        super().__init__()
        self.layer_norm1, self.layer_norm2 = _layer_norm(), _layer_norm()
        self.self_attn = nn.ModuleDict({f"{n}_proj": nn.Linear(WIDTH, WIDTH) for n in ("q", "k", "v", "out")})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(WIDTH, 4 * WIDTH), "fc2": nn.Linear(4 * WIDTH, WIDTH)})
        for last in (self.self_attn["out_proj"], self.mlp["fc2"]):
            nn.init.normal_(last.weight, std=0.01)
            nn.init.zeros_(last.bias)

    def forward(self, x):
        h = self.layer_norm1(x)
        q, k, v = (self.self_attn[f"{n}_proj"](h).unflatten(-1, (HEADS, -1)).transpose(1, 2) for n in ("q", "k", "v"))
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.self_attn["out_proj"](h)
        h = self.mlp["fc1"](self.layer_norm2(x))
        return x + self.mlp["fc2"](h * torch.sigmoid(1.702 * h))


class TextEncoder(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        scale = STREAM_SCALE / WIDTH**0.5
        self.rows = nn.Parameter(torch.randn(vocabulary, WIDTH) * 0.4 * scale)
        self.position = nn.Parameter(torch.randn(TOKENS, WIDTH) * 0.2 * scale)
        self.layers = nn.ModuleList(TextLayer() for _ in range(LAYERS))
        self.final_layer_norm = _layer_norm()

    def forward(self, tokens):
        """Row numbers [n, tokens] -> text features [n, tokens, 768]."""
        x = self.rows[tokens] + self.position[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return self.final_layer_norm(x)


def export_text(encoder):
    """State dict of the text encoder at CLIP's own scale."""
    return _scaled(encoder.state_dict(), 1 / STREAM_SCALE)


def load_exported(model, text, unet):
    """Put an exported text encoder and a UNet into a fresh denoiser."""
    model.text.load_state_dict(_scaled(text, STREAM_SCALE))
    model.unet.load_state_dict(unet)


def _scaled(text, factor):
    on_stream = ("rows", "position", "out_proj.weight", "out_proj.bias", "fc2.weight", "fc2.bias")
    return {name: tensor * factor if name.endswith(on_stream) else tensor for name, tensor in text.items()}


@functools.cache
def _tokenizer():
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(comfyui.path() / "comfy" / "sd1_tokenizer")


@functools.cache
def used_tokens():
    """Word -> CLIP token id for every word of the world's captions, each of which is one token; and the specials."""
    phrases = [*world.COLOURS, *world.SHAPES, *sum(world.RELATION_WORDS.values(), ()), "and a an picture drawing of"]
    words = sorted({word for phrase in phrases for word in phrase.split()})
    ids = {word: _tokenizer()(word)["input_ids"][1:-1] for word in words}
    if several := [word for word, tokens in ids.items() if len(tokens) != 1]:
        raise ValueError(f"words of several tokens: {several}")
    return {"<start>": 49406, "<end>": 49407, **{word: tokens[0] for word, tokens in ids.items()}}


def row_numbers(captions, tokens=TOKENS):
    """Captions -> [n, tokens] numbers of trained embedding rows, padded with <end> as CLIP-L does."""
    number = {word: i for i, word in enumerate(used_tokens())}
    rows = torch.full((len(captions), tokens), number["<end>"])
    for row, caption in zip(rows, captions, strict=True):
        ids = [number["<start>"], *(number[word] for word in caption.split())]
        row[: len(ids)] = torch.tensor(ids)
    return rows


class _PlainOperations:
    """torch's own layers where the host would put its uninitialised ones."""

    Linear, Conv2d, GroupNorm, LayerNorm = nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm

    @staticmethod
    def conv_nd(dims, *args, **kwargs):
        return nn.Conv2d(*args, **kwargs)


def build_unet():
    comfyui.enter()
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    unet = UNetModel(**copy.deepcopy(UNET), dtype=torch.float32, operations=_PlainOperations)
    for name in CENTRE_ONLY:
        parent, _, child = name.rpartition(".")
        old = unet.get_submodule(name)
        setattr(unet.get_submodule(parent), child, nn.Conv2d(old.in_channels, old.out_channels, 1))
    for name, module in unet.named_modules():
        # Each residual branch but the text's starts as (nearly) the identity.
        if name.endswith(("out_layers.3", "proj_out", "attn1.to_out.0", "ff.net.2")):
            nn.init.normal_(module.weight, std=0.005)
            nn.init.zeros_(module.bias)
    _pass_the_noise_through(unet)
    return unet.to(memory_format=torch.channels_last)


@torch.no_grad()
def _pass_the_noise_through(unet):
    """Start with the prediction "the noise is what came in", which is nearly right where the noise is high.

    The latent goes with both signs through the first convolution, the outermost skip connection and the last
    normalisation; silu(x) - silu(-x) is x.
    """
    first, last = unet.input_blocks[0][0], unet.out[2]
    skip = unet.output_blocks[-1][0].skip_connection
    width = first.out_channels
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    for channel in range(4):
        for sign, at in ((1, 2 * channel), (-1, 2 * channel + 1)):
            first.weight[at], first.bias[at] = 0, 0
            first.weight[at, channel, 1, 1] = sign
            skip.weight[at], skip.bias[at] = 0, 0
            skip.weight[at, width + at] = 1
            # The group of ten channels has eight that carry the latent.
            last.weight[channel, at, 1, 1] = sign * 0.8**0.5
    for at in (8, 9):
        skip.weight[at], skip.bias[at] = 0, 0


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.text = TextEncoder(len(used_tokens()))
        self.unet = build_unet()

    def forward(self, x, t, context):
        return self.unet(x, t, context=context, transformer_options={"optimized_attention_override": _attention})


def _attention(_, q, k, v, heads, **kwargs):
    """Written out, because torch's fused attention takes several times as long on a CPU for so few tokens."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    scores = q.mul(q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if k.shape[2] == SHORT_TOKENS:
        padding = scores.new_zeros(SHORT_TOKENS)
        padding[-1] = math.log(TOKENS - SHORT_TOKENS + 1)
        scores = scores + padding
    return (scores.softmax(-1).to(v.dtype) @ v).transpose(1, 2).flatten(2)


def alphas_cumprod():
    """Of SD 1.x: 1000 steps, square roots of beta linear from sqrt(0.00085) to sqrt(0.012)."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


def loss_weight(snr):
    """Weight of the noise error: as if the picture were predicted, but less where the SNR is under 1/4, since what is
    asked there is mostly where the entities happen to stand."""
    return (1 / snr).clamp(0.02, 4.0)


def training_loss(model, latents, step, tokens, captions=32):
    """Weighted noise error on one drawing of each of some groups of the pool, a scalar."""
    rng = np.random.default_rng((3, step))
    generator = torch.Generator().manual_seed(step)
    indices = rng.choice(len(latents), captions, p=pool.shares(len(latents)))
    texts = [world.caption(pool.group(i)[0], rng) for i in indices]
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


def update_average(average, model, step, every=4):
    """Exponential average of the weights, brought up to date every few steps."""
    if (step + 1) % every == 0:
        decay = min(0.998, (1 + step) / (20 + step)) ** every
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


def train(model, folder, latents, steps, decay_steps=0, whole_window_from=0, peak=7e-4, log=logging.info):
    """Train to `steps` at a constant rate (after a warm-up), with a linear decay over the last `decay_steps`.

    Resumes from `folder`/denoiser.pt. A decayed run is kept apart: a longer one goes on from before the decay.
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


@torch.no_grad()
def sample(model, captions, seeds, steps=20, cfg=4.0, tokens=TOKENS):
    """Deterministic DDIM samples, latents [n, 4, 8, 8]: a quick look; the host's sampler is the measure."""
    abar = alphas_cumprod()
    x = torch.stack([torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(s)) for s in seeds])
    context = model.text(row_numbers([*captions, *[""] * len(captions)], tokens))
    times = torch.linspace(999, 0, steps + 1).long()
    for now, then in zip(times[:-1], times[1:], strict=True):
        t = torch.full((2 * len(x),), float(now))
        told, free = model(x.repeat(2, 1, 1, 1), t, context).chunk(2)
        noise = free + cfg * (told - free)
        x0 = (x - (1 - abar[now]).sqrt() * noise) / abar[now].sqrt()
        x = abar[then].sqrt() * x0 + (1 - abar[then]).sqrt() * noise if then > 0 else x0
    return x
