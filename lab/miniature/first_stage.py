"""The miniature's first stage: pictures to latents and back, in the shape of TAESD.

The host loads the result as the checkpoint's VAE: 64 x 64 pictures become 4 x 8 x 8 latents (the channels are those of
the form, see `forms`) whose values have zero mean and unit variance once the family's scale and shift are applied.
"""

import logging
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

LATENT_CHANNELS = 4
WIDTH = 64
# Blocks at each resolution: the encoder's at 64, 32, 16, 8 pixels, the decoder's from 8 pixels up.
ENCODER_BLOCKS = (1, 3, 3, 3)
DECODER_BLOCKS = (3, 3, 3, 1)
NOISE = 0.2  # the largest spread of what is added to the latents that the decoder learns from


class Block(nn.Module):
    """Three convolutions beside the identity, which it is at first."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(*(layer for _ in range(3) for layer in (_conv(WIDTH, WIDTH), nn.ReLU())))[:-1]
        nn.init.zeros_(self.conv[-1].weight)
        nn.init.zeros_(self.conv[-1].bias)

    def forward(self, x):
        return F.relu(self.conv(x) + x)


class Clamp(nn.Module):
    def forward(self, x):
        return torch.tanh(x / 3) * 3


def _conv(n_in, n_out, **kwargs):
    return nn.Conv2d(n_in, n_out, 3, padding=1, **kwargs)


def encoder(channels: int) -> nn.Sequential:
    """TAESD's encoder: [n, 3, h, w] -> [n, channels, h / 8, w / 8]."""
    layers = [_conv(3, WIDTH), Block()]
    for blocks in ENCODER_BLOCKS[1:]:
        layers += [_conv(WIDTH, WIDTH, stride=2, bias=False), *(Block() for _ in range(blocks))]
    return nn.Sequential(*layers, _conv(WIDTH, channels))


def decoder(channels: int) -> nn.Sequential:
    """TAESD's decoder: [n, channels, h, w] -> [n, 3, 8 h, 8 w]."""
    layers = [Clamp(), _conv(channels, WIDTH), nn.ReLU()]
    for blocks in DECODER_BLOCKS[:-1]:
        layers += [*(Block() for _ in range(blocks)), nn.Upsample(scale_factor=2), _conv(WIDTH, WIDTH, bias=False)]
    return nn.Sequential(*layers, Block(), _conv(WIDTH, 3))


class FirstStage(nn.Module):
    """Training form: the latents' mean and scale are a batch norm, folded into the encoder on export."""

    def __init__(self, channels: int = LATENT_CHANNELS):
        super().__init__()
        self.encoder, self.decoder = encoder(channels), decoder(channels)
        self.normalise = nn.BatchNorm2d(channels, affine=False, momentum=0.01)

    def encode(self, pictures):
        """[n, 3, h, w] in 0..1 -> [n, channels, h / 8, w / 8] latents of zero mean and unit variance."""
        return self.normalise(self.encoder(pictures))

    def decode(self, latents):
        return self.decoder(latents)


def export(model: FirstStage) -> dict[str, torch.Tensor]:
    """State dict under the host's keys (`first_stage_model.` is added on assembly)."""
    tensors = {}
    scale = torch.rsqrt(model.normalise.running_var + model.normalise.eps)
    for side, network in (("encoder", model.encoder), ("decoder", model.decoder)):
        for key, value in network.state_dict().items():
            tensors[f"taesd_{side}.{key}"] = value.detach().float().clone()
    last = f"taesd_encoder.{len(model.encoder) - 1}"
    tensors[f"{last}.weight"] *= scale[:, None, None, None]
    tensors[f"{last}.bias"] = (tensors[f"{last}.bias"] - model.normalise.running_mean) * scale
    return tensors


def load_exported(tensors: dict[str, torch.Tensor], channels: int = LATENT_CHANNELS) -> FirstStage:
    """The training form of an exported first stage, whose latents are normal already.

    Missing blocks are the identity; the first of more channels are those of the exported one, the others fresh.
    """
    model = FirstStage(channels)
    with torch.no_grad():
        for name, whole in model.state_dict().items():
            if (tensor := tensors.get(f"taesd_{name}")) is not None:
                whole[tuple(slice(n) for n in tensor.shape)] = tensor
    return model.to(memory_format=torch.channels_last).eval()


def loss_function(reconstruction, pictures, entity_mask):
    """Squared and absolute error, with the pixels of the entities weighted four times."""
    error = reconstruction - pictures
    weight = 1 + 3 * entity_mask
    return ((error.square() + 0.05 * error.abs()) * weight).mean()


def psnr(reconstruction, pictures):
    """Peak signal-to-noise ratio in dB of pictures in 0..1, over the whole batch."""
    return float(-10 * torch.log10(F.mse_loss(reconstruction.clamp(0, 1), pictures)))


def batch(
    drawn, size: int, side: int, generator: torch.Generator, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures [n, 3, side, side] in 0..1 of a `pool.Pictures` and the masks of their entities [n, 1, side, side].

    A side under that of the pictures takes the same random part of all of them, on the grid of the latents.
    """
    pictures, entities = drawn.pictures.flatten(0, 1), drawn.entities.flatten(0, 1)
    chosen = torch.randint(len(pictures), (size,), generator=generator)
    y, x = (8 * torch.randint((pictures.shape[1] - side) // 8 + 1, (2,), generator=generator)).tolist()
    part = (chosen, slice(y, y + side), slice(x, x + side))
    pictures, entities = (tensor[part].to(device, non_blocking=True) for tensor in (pictures, entities))
    pictures = pictures.permute(0, 3, 1, 2).float() / 255
    return pictures.contiguous(memory_format=torch.channels_last), entities[:, None].float()


def learning_rate(step: int, steps: int, peak: float) -> float:
    """A short warm-up, then a cosine that falls to a thirtieth."""
    return peak * min(1, (step + 1) / 100) * (0.03 + 0.97 * (0.5 + 0.5 * math.cos(math.pi * step / steps)))


def train(
    model: FirstStage,
    drawn,
    device: torch.device,
    steps: int,
    size: int = 32,
    crops_until: int = 0,
    peak: float = 1.5e-3,
    log: Callable[[str], None] = logging.info,
) -> FirstStage:
    """Train on the pictures of a `pool.Pictures`, `size` of them a step; the first `crops_until` steps see parts of a
    half of the side, which a CPU needs. Returns the model, ready to encode."""
    model = model.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters())
    generator = torch.Generator().manual_seed(0)
    side = drawn.pictures.shape[2]
    for step in range(steps):
        pictures, mask = batch(drawn, size, side // 2 if step < crops_until else side, generator, device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        # In bfloat16 a step takes a quarter of the time on a CPU that has it.
        with torch.autocast(device.type, torch.bfloat16):
            latents = model.encode(pictures)
            # Some noise keeps neighbouring latents decodable: the denoiser's output is never exact.
            spread = NOISE * torch.rand(len(latents), 1, 1, 1, device=device)
            reconstruction = model.decode(latents + spread * torch.randn_like(latents))
        loss = loss_function(reconstruction.float(), pictures, mask)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            log(f"first stage {step}/{steps}: loss {loss.item():.5f}, {psnr(reconstruction.detach(), pictures):.2f} dB")
    return model.eval()
