"""A checkpoint of Stable Diffusion 1.5's architecture with random weights, for measuring speed and memory."""

import os

import torch
from safetensors.torch import save_file

from lab.harness import comfyui

PATH = comfyui.ROOT / "build" / "speed" / "full_size.safetensors"
SIDE = 512
UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "num_heads": 8,
    "use_spatial_transformer": True,
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "context_dim": 768,
    "legacy": False,
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
TEXT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
}


def networks():
    """Prefix in the checkpoint -> the host's network, on the meta device."""
    comfyui.enter()
    import comfy.ops
    from comfy.clip_model import CLIPTextModel
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    kind = {"dtype": torch.float16, "operations": comfy.ops.disable_weight_init}
    with torch.device("meta"):
        return {
            "model.diffusion_model": UNetModel(**UNET, **kind),
            "cond_stage_model.transformer": CLIPTextModel(TEXT, device="meta", **kind),
            "first_stage_model": AutoencoderKL(ddconfig=FIRST_STAGE, embed_dim=4),
        }


def random_weight(name, shape, generator):
    """Weights that keep the size of what passes through; normalisations start as the identity."""
    if len(shape) > 1:
        return torch.randn(shape, generator=generator) * (shape.numel() / shape[0]) ** -0.5
    return torch.full(shape, float(name.endswith("weight")))


def write_checkpoint(path=PATH):
    """Write the checkpoint, 2.1 GB in float16, where it is not there yet."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        generator = torch.Generator().manual_seed(0)
        weights = {
            f"{prefix}.{name}": random_weight(name, tensor.shape, generator).half()
            for prefix, network in networks().items()
            for name, tensor in network.state_dict().items()
            if tensor.is_floating_point()
        }
        partial = path.with_suffix(".partial")
        save_file(weights, partial)
        os.replace(partial, path)
