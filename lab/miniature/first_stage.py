"""The miniature's first stage: pictures to latents and back, in the shape of TAESD.

The host loads the result as the checkpoint's VAE: 64 x 64 pictures become 4 x 8 x 8 latents whose values,
multiplied by 0.18215, have zero mean and unit variance. Blocks of the fixed architecture that the small world
does not need are left out here and exported with zero weights, which makes them the identity.
"""

import logging
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lab.miniature import checkpoints, world

LATENT_CHANNELS = 4
SD1_LATENT_SCALE = 0.18215
WIDTH = 64
# Trained blocks at each resolution, of 1, 3, 3, 3 in the encoder (64, 32, 16, 8 pixels) and 3, 3, 3, 1 in the decoder.
ENCODER_BLOCKS = (0, 1, 2, 2)
DECODER_BLOCKS = (3, 2, 2, 1)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(*(layer for _ in range(3) for layer in (_conv(WIDTH, WIDTH), nn.ReLU())))[:-1]
        nn.init.zeros_(self.conv[-1].weight)

    def forward(self, x):
        return F.relu(self.conv(x) + x)


class Clamp(nn.Module):
    def forward(self, x):
        return torch.tanh(x / 3) * 3


def _conv(n_in, n_out, **kwargs):
    return nn.Conv2d(n_in, n_out, 3, padding=1, **kwargs)


def _blocks(trained, total):
    return [Block() if i < trained else nn.ReLU() for i in range(total)]


def encoder():
    layers = [_conv(3, WIDTH), *_blocks(ENCODER_BLOCKS[0], 1)]
    for trained in ENCODER_BLOCKS[1:]:
        layers += [_conv(WIDTH, WIDTH, stride=2, bias=False), *_blocks(trained, 3)]
    return nn.Sequential(*layers, _conv(WIDTH, LATENT_CHANNELS))


def decoder():
    layers = [Clamp(), _conv(LATENT_CHANNELS, WIDTH), nn.ReLU()]
    for trained, total in zip(DECODER_BLOCKS, (3, 3, 3, 1), strict=True):
        layers += _blocks(trained, total)
        if total == 3:
            layers += [nn.Upsample(scale_factor=2), _conv(WIDTH, WIDTH, bias=False)]
    return nn.Sequential(*layers, _conv(WIDTH, 3))


class FirstStage(nn.Module):
    """Training form: the latents' mean and scale are a batch norm, folded into the encoder on export."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = encoder(), decoder()
        self.normalise = nn.BatchNorm2d(LATENT_CHANNELS, affine=False, momentum=0.01)

    def encode(self, pictures):
        """[n, 3, 64, 64] in 0..1 -> [n, 4, 8, 8] latents of zero mean and unit variance."""
        return self.normalise(self.encoder(pictures))

    def decode(self, latents):
        return self.decoder(latents)


def export(model):
    """State dict under the host's keys (`first_stage_model.` is added on assembly)."""
    tensors = {}
    scale = torch.rsqrt(model.normalise.running_var + model.normalise.eps)
    for side, network in (("encoder", model.encoder), ("decoder", model.decoder)):
        for key, value in network.state_dict().items():
            tensors[f"taesd_{side}.{key}"] = value.detach().clone()
    last = f"taesd_encoder.{len(model.encoder) - 1}"
    tensors[f"{last}.weight"] *= scale[:, None, None, None]
    tensors[f"{last}.bias"] = (tensors[f"{last}.bias"] - model.normalise.running_mean) * scale
    return tensors


def load_exported(tensors):
    """The training form of an exported first stage; its latents are normal already."""
    model = FirstStage()
    state = {name.removeprefix("taesd_"): tensor for name, tensor in tensors.items()}
    model.load_state_dict({**model.state_dict(), **state})
    return model.to(memory_format=torch.channels_last).eval()


def loss_function(reconstruction, pictures, entity_mask):
    """Squared and absolute error, with the pixels of the entities weighted four times."""
    error = reconstruction - pictures
    weight = 1 + 3 * entity_mask
    return ((error.square() + 0.05 * error.abs()) * weight).mean()


def psnr(reconstruction, pictures):
    """Peak signal-to-noise ratio in dB of pictures in 0..1, over the whole batch."""
    return float(-10 * torch.log10(F.mse_loss(reconstruction.clamp(0, 1), pictures)))


def batch(rng, size, side):
    """Random pictures [n, 3, side, side] in 0..1 and their entity masks [n, 1, side, side].

    A side under 64 crops the picture around a point of one of its entities.
    """
    pictures, masks = [], []
    for _ in range(size):
        scene = world.random_scene(rng)
        picture = world.render(scene)
        mask = np.maximum(world.coverage(scene.subject), world.coverage(scene.object))
        centre = scene.subject if rng.random() < 0.5 else scene.object
        reach = centre.size // 2
        x, y = (
            int(np.clip(c + rng.integers(-reach, reach + 1) - side // 2, 0, world.SIDE - side)) // 8 * 8
            for c in (centre.x, centre.y)
        )
        pictures.append(picture[y : y + side, x : x + side])
        masks.append(mask[None, y : y + side, x : x + side])
    pictures = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    return pictures.contiguous(memory_format=torch.channels_last), torch.from_numpy(np.stack(masks))


def learning_rate(step, steps, peak=1.5e-3):
    return peak * min(1, (step + 1) / 100) * (0.03 + 0.97 * (0.5 + 0.5 * math.cos(math.pi * step / steps)))


def train(folder, steps=4000, whole_pictures_from=3600, log=logging.info):
    """Train to `steps`, resuming from `folder`; 32 crops of 32 x 32 a step, then 12 whole pictures a step."""
    torch.manual_seed(0)
    model = FirstStage().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters())
    path = folder / "first_stage.pt"
    start = 0
    if (state := checkpoints.load(path)) is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    for step in range(start, steps):
        crop = step < whole_pictures_from
        pictures, mask = batch(np.random.default_rng((1, step)), *((32, 32) if crop else (12, world.SIDE)))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        latents = model.encode(pictures)
        # A little noise keeps neighbouring latents decodable: the denoiser's output is never exact.
        reconstruction = model.decode(latents + 0.05 * torch.randn_like(latents))
        loss = loss_function(reconstruction, pictures, mask)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            log(f"first stage {step}/{steps}: loss {loss.item():.5f}, {psnr(reconstruction.detach(), pictures):.2f} dB")
        if (step + 1) % 200 == 0 or step + 1 == steps:
            checkpoints.save(path, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1})
    return model.eval()
