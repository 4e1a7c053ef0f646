"""Checkpoints of the real widths of Stable Diffusion with random weights, to measure time and memory at full size.

They have every key that the host's loader wants, in float16, and are the same on every machine. They draw noise.
"""

import dataclasses
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from lab.harness import comfyui
from reversion_core.store.files import whole_file

FOLDER = comfyui.ROOT / "build" / "full_size"
# The settings of the UNet that the host reads from a published checkpoint.
SD_UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "use_spatial_transformer": True,
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "context_dim": 768,
    "legacy": False,
}
SDXL_UNET = {
    **SD_UNET,
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4],
    "use_linear_in_transformer": True,
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_middle": 10,
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "context_dim": 2048,
    "adm_in_channels": 2816,
    "num_classes": "sequential",
}
FIRST_STAGE = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}
# By the spread of this bias the host tells a model that predicts v from one that predicts noise (0.09 and more).
V_MARK = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"


@dataclasses.dataclass(frozen=True)
class Architecture:
    """config: the host's class in `comfy.supported_models`; side: native pixels."""

    config: str
    unet: dict[str, Any]
    side: int
    predicts_v: bool = False


ARCHITECTURES = {
    "SD 1.5": Architecture("SD15", SD_UNET, 512),
    "SD 2.1 768-v": Architecture(
        "SD20", {**SD_UNET, "context_dim": 1024, "use_linear_in_transformer": True}, 768, predicts_v=True
    ),
    "SDXL": Architecture("SDXL", SDXL_UNET, 1024),
}


def networks(name: str) -> dict[str, torch.nn.Module]:
    """The host's own networks of an architecture, "unet", "text" and "vae", on the meta device."""
    comfyui.make_importable()
    from comfy.ldm.models.autoencoder import AutoencoderKL

    config = _config(name)
    with torch.device("meta"):
        return {
            "unet": config.get_model({}, device="meta").diffusion_model,
            "text": config.clip_target({}).clip(device="meta", dtype=torch.float16),
            "vae": AutoencoderKL(ddconfig=FIRST_STAGE, embed_dim=4),
        }


def shapes(name: str) -> dict[str, torch.Size]:
    """Key in the checkpoint -> shape, in the layout in which the host itself saves the architecture."""
    config, states = _config(name), {part: network.state_dict() for part, network in networks(name).items()}
    checkpoint = config.process_unet_state_dict_for_saving(states["unet"])
    checkpoint |= config.process_clip_state_dict_for_saving(states["text"])
    checkpoint |= config.process_vae_state_dict_for_saving(states["vae"])
    return {key: tensor.shape for key, tensor in checkpoint.items() if tensor.is_floating_point()}


def _config(name: str):
    comfyui.make_importable()
    import comfy.supported_models

    architecture = ARCHITECTURES[name]
    config = getattr(comfy.supported_models, architecture.config)(architecture.unet)
    config.set_inference_dtype(torch.float16, None)
    return config


def random_weight(key: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """Float32 weights that keep the size of what passes through; normalisations start as the identity."""
    if len(shape) > 1:
        return torch.randn(shape, generator=generator) * (shape.numel() / shape[0]) ** -0.5
    return torch.full(shape, float(key.endswith("weight")))


def path(name: str) -> Path:
    return FOLDER / f"random-{name.lower().replace(' ', '-')}.safetensors"


def write_checkpoint(name: str) -> Path:
    """Write the checkpoint of an architecture where it is not there yet: 2.1, 2.6 and 6.9 GB. Returns its path."""
    generator, predicts_v = torch.Generator().manual_seed(0), ARCHITECTURES[name].predicts_v

    def weight(key: str, shape: torch.Size) -> torch.Tensor:
        if predicts_v and key == V_MARK:
            return torch.randn(shape, generator=generator) * 0.2
        return random_weight(key, shape, generator)

    if not path(name).exists():
        with whole_file(path(name)) as file:
            _write_safetensors(file, shapes(name), weight)
    return path(name)


def _write_safetensors(
    file: BinaryIO, tensors: dict[str, torch.Size], weight: Callable[[str, torch.Size], torch.Tensor]
) -> None:
    """Float16 tensors, made and written one after the other: `save_file` would hold all of them in memory, twice."""
    header, end = {}, 0
    for key, shape in tensors.items():
        begin, end = end, end + 2 * shape.numel()
        header[key] = {"dtype": "F16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for key, shape in tensors.items():
        file.write(weight(key, shape).half().numpy().tobytes())
