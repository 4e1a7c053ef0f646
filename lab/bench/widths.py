"""The real widths of the families' networks, as the host's detection finds them in their checkpoints."""

import dataclasses
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from lab.bench.random_checkpoints import ARCHITECTURES
from lab.miniature import mmdit


def _spatial(channels: int, factor: int = 8) -> Callable[[int], tuple[int, ...]]:
    return lambda side: (channels, side // factor, side // factor)


@dataclass(frozen=True)
class Width:
    """One network.

    kind: the host's configuration class; network: its parameters; latents: side in pixels -> shape of one picture's;
    tokens, context, pooled: of the text features; text: module of comfy.text_encoders, class or function of the
    encoders, class of the tokenizer, empty for the configuration's own; text_options: of the function; text_bytes: of a
    weight of theirs; fp8: weights are of 8 bits; dtype: computed in.
    """

    name: str
    kind: str
    network: dict
    latents: Callable[[int], tuple[int, ...]]
    tokens: int
    context: int
    pooled: int = 0
    sides: tuple[int, ...] = (1024,)
    text: tuple[str, str, str] | tuple = ()
    text_options: dict | None = None
    text_bytes: int = 2
    conds: dict = field(default_factory=dict)
    fp8: bool = False
    dtype: torch.dtype = torch.bfloat16


FLUX = {
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": 768,
    "context_in_dim": 4096,
    "hidden_size": 3072,
    "mlp_ratio": 4.0,
    "num_heads": 24,
    "depth": 19,
    "depth_single_blocks": 38,
    "axes_dim": [16, 56, 56],
    "theta": 10000,
    "qkv_bias": True,
    "txt_ids_dims": [],
    "patch_size": 2,
}
Z_IMAGE = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": 16,
    "dim": 3840,
    "cap_feat_dim": 2560,
    "n_layers": 30,
    "qk_norm": True,
    "n_heads": 30,
    "n_kv_heads": 30,
    "axes_dims": [32, 48, 48],
    "axes_lens": [1536, 512, 512],
    "rope_theta": 256.0,
    "ffn_dim_multiplier": 8 / 3,
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
}
ANIMA = {
    "image_model": "anima",
    "max_img_h": 240,
    "max_img_w": 240,
    "max_frames": 128,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "model_channels": 2048,
    "concat_padding_mask": True,
    "crossattn_emb_channels": 1024,
    "pos_emb_cls": "rope3d",
    "pos_emb_learnable": True,
    "pos_emb_interpolation": "crop",
    "min_fps": 1,
    "max_fps": 30,
    "use_adaln_lora": True,
    "adaln_lora_dim": 256,
    "num_blocks": 28,
    "num_heads": 16,
    "extra_per_block_abs_pos_emb": False,
    "rope_h_extrapolation_ratio": 4.0,
    "rope_w_extrapolation_ratio": 4.0,
    "rope_t_extrapolation_ratio": 1.0,
    "rope_enable_fps_modulation": False,
}
KLEIN = {
    **FLUX,
    "image_model": "flux2",
    "in_channels": 128,
    "out_channels": 128,
    "vec_in_dim": None,
    "context_in_dim": 7680,
    "guidance_embed": False,
    "depth": 5,
    "depth_single_blocks": 20,
    "axes_dim": [32] * 4,
    "mlp_ratio": 3.0,
    "theta": 2000,
    "global_modulation": True,
    "mlp_silu_act": True,
    "qkv_bias": False,
    "ops_bias": False,
    "default_ref_method": "index",
    "ref_index_scale": 10.0,
    "txt_ids_dims": [3],
    "patch_size": 1,
}
LUMINA_2 = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": 16,
    "dim": 2304,
    "cap_feat_dim": 2304,
    "n_layers": 26,
    "qk_norm": True,
    "n_heads": 24,
    "n_kv_heads": 8,
    "axes_dims": [32, 32, 32],
    "axes_lens": [300, 512, 512],
    "rope_theta": 10000.0,
    "ffn_dim_multiplier": 4.0,
}


def known(network: dict) -> dict:
    """A network's parameters without those that an older host's Flux does not know."""
    modules = {"flux": "flux.model.FluxParams", "flux2": "flux.model.FluxParams", "chroma": "chroma.model.ChromaParams"}
    if (place := modules.get(network.get("image_model"))) is None:
        return network
    module, _, name = place.rpartition(".")
    fields = dataclasses.fields(getattr(importlib.import_module(f"comfy.ldm.{module}"), name))
    return {key: value for key, value in network.items() if key in {f.name for f in fields} | {"image_model"}}


def _sd(name: str, architecture: str, context: int, pooled: int, sides: tuple[int, ...]) -> Width:
    given = ARCHITECTURES[architecture]
    return Width(name, given.config, given.unet, _spatial(4), 77, context, pooled, sides, dtype=torch.float16)


def _sd3(name: str, depth: int, places: int, **more) -> Width:
    network = mmdit.settings(depth, places, qk_norm="rms", **more)
    options = {"clip_l": True, "clip_g": True, "t5": True}
    text = ("sd3_clip", "sd3_clip", "SD3Tokenizer")
    return Width(name, "SD3", network, _spatial(16), 154, 4096, 2048, text=text, text_options=options, text_bytes=1)


WIDTHS = (
    _sd("SD 1.x", "SD 1.5", 768, 768, (512, 768)),
    _sd("SD 2.x", "SD 2.1 768-v", 1024, 1024, (512, 768)),
    _sd("SDXL", "SDXL", 2048, 1280, (768, 1024)),
    _sd3("SD 3.5 medium, text in fp8", 24, 384, x_block_self_attn_layers=list(range(13))),
    _sd3("SD 3.5 large, text in fp8", 38, 192),
    Width(
        "Flux.1, fp8",
        "Flux",
        {**FLUX, "image_model": "flux", "guidance_embed": True},
        _spatial(16),
        256,
        4096,
        768,
        sides=(512, 1024),
        text=("flux", "flux_clip", "FluxTokenizer"),
        text_options={},
        text_bytes=1,
        conds={"guidance": 1.0},
        fp8=True,
    ),
    Width(
        "Chroma, fp8",
        "Chroma",
        {
            **FLUX,
            "image_model": "chroma",
            "vec_in_dim": None,
            "in_channels": 64,
            "out_channels": 64,
            "in_dim": 64,
            "out_dim": 3072,
            "hidden_dim": 5120,
            "n_layers": 5,
        },
        _spatial(16),
        256,
        4096,
        sides=(512, 1024),
        text=("pixart_t5", "pixart_te", "PixArtTokenizer"),
        text_options={},
        text_bytes=1,
        fp8=True,
    ),
    Width(
        "Z-Image, fp8",
        "ZImage",
        Z_IMAGE,
        _spatial(16),
        64,
        2560,
        text=("z_image", "te", "ZImageTokenizer"),
        text_options={},
        text_bytes=1,
        fp8=True,
    ),
    Width(
        "Qwen-Image, fp8",
        "QwenImage",
        {
            "image_model": "qwen_image",
            "in_channels": 64,
            "num_layers": 60,
            "num_attention_heads": 24,
            "joint_attention_dim": 3584,
        },
        lambda side: (16, 1, side // 8, side // 8),
        64,
        3584,
        text=("qwen_image", "te", "QwenImageTokenizer"),
        text_options={},
        text_bytes=1,
        fp8=True,
    ),
    Width(
        "AuraFlow",
        "AuraFlow",
        {
            "max_seq": 4096,
            "cond_seq_dim": 2048,
            "n_double_layers": 4,
            "n_layers": 36,
            "dim": 3072,
            "n_heads": 12,
            "global_conddim": 3072,
        },
        _spatial(4),
        256,
        2048,
        text=("aura_t5", "AuraT5Model", "AuraT5Tokenizer"),
    ),
    Width(
        "Lumina 2",
        "Lumina2",
        LUMINA_2,
        _spatial(16),
        64,
        2304,
        text=("lumina2", "te", "LuminaTokenizer"),
        text_options={},
    ),
    Width(
        "Anima",
        "Anima",
        ANIMA,
        lambda side: (16, 1, side // 8, side // 8),
        64,
        1024,
        text=("anima", "te", "AnimaTokenizer"),
        text_options={},
    ),
    Width(
        "Flux.2 Klein 4B",
        "Flux2",
        KLEIN,
        _spatial(128, 16),
        512,
        7680,
        text=("flux", "klein_te", "KleinTokenizer"),
        text_options={},
    ),
)
