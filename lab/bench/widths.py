"""The real widths of the families' networks, as the host's detection finds them in their checkpoints."""

import dataclasses
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field

import torch


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


_SD = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "use_spatial_transformer": True,
    "use_temporal_attention": False,
    "legacy": False,
}
_SDXL = {
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_middle": 10,
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "use_linear_in_transformer": True,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
    "context_dim": 2048,
    "num_head_channels": 64,
}
_FLUX = {
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
_FLUX_TEXT = ("flux", "flux_clip", "FluxTokenizer")
_T5_TEXT = ("pixart_t5", "pixart_te", "PixArtTokenizer")


def known(network: dict) -> dict:
    """A network's parameters without those that an older host's Flux does not know."""
    modules = {"flux": "flux.model.FluxParams", "flux2": "flux.model.FluxParams", "chroma": "chroma.model.ChromaParams"}
    if (place := modules.get(network.get("image_model"))) is None:
        return network
    module, _, name = place.rpartition(".")
    fields = dataclasses.fields(getattr(importlib.import_module(f"comfy.ldm.{module}"), name))
    return {key: value for key, value in network.items() if key in {f.name for f in fields} | {"image_model"}}


def _mmdit(depth: int, places: int, **more) -> dict:
    return {
        "in_channels": 16,
        "patch_size": 2,
        "depth": depth,
        "input_size": None,
        "adm_in_channels": 2048,
        "context_embedder_config": {
            "target": "torch.nn.Linear",
            "params": {"in_features": 4096, "out_features": 64 * depth},
        },
        "num_patches": places**2,
        "pos_embed_max_size": places,
        "pos_embed_scaling_factor": None,
        **more,
    }


def _sd3(name: str, network: dict) -> Width:
    options = {"clip_l": True, "clip_g": True, "t5": True}
    text = ("sd3_clip", "sd3_clip", "SD3Tokenizer")
    return Width(name, "SD3", network, _spatial(16), 154, 4096, 2048, text=text, text_options=options, text_bytes=1)


WIDTHS = (
    Width(
        "SD 1.x",
        "SD15",
        {**_SD, "num_heads": 8, "context_dim": 768, "use_linear_in_transformer": False, "adm_in_channels": None},
        _spatial(4),
        77,
        768,
        768,
        sides=(512, 768),
        dtype=torch.float16,
    ),
    Width(
        "SD 2.x",
        "SD20",
        {
            **_SD,
            "num_head_channels": 64,
            "context_dim": 1024,
            "use_linear_in_transformer": True,
            "adm_in_channels": None,
        },
        _spatial(4),
        77,
        1024,
        1024,
        sides=(512, 768),
        dtype=torch.float16,
    ),
    Width("SDXL", "SDXL", {**_SD, **_SDXL}, _spatial(4), 77, 2048, 1280, sides=(768, 1024), dtype=torch.float16),
    _sd3("SD 3.5 medium, text in fp8", _mmdit(24, 384, qk_norm="rms", x_block_self_attn_layers=list(range(13)))),
    _sd3("SD 3.5 large, text in fp8", _mmdit(38, 192, qk_norm="rms")),
    Width(
        "Flux.1, fp8",
        "Flux",
        {**_FLUX, "image_model": "flux", "guidance_embed": True},
        _spatial(16),
        256,
        4096,
        768,
        sides=(512, 1024),
        text=_FLUX_TEXT,
        text_options={},
        text_bytes=1,
        conds={"guidance": 1.0},
        fp8=True,
    ),
    Width(
        "Chroma, fp8",
        "Chroma",
        {
            **_FLUX,
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
        text=_T5_TEXT,
        text_options={},
        text_bytes=1,
        fp8=True,
    ),
    Width(
        "Z-Image, fp8",
        "ZImage",
        {
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
        },
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
        {
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
        },
        _spatial(16),
        64,
        2304,
        text=("lumina2", "te", "LuminaTokenizer"),
        text_options={},
    ),
    Width(
        "Anima",
        "Anima",
        {
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
        },
        lambda side: (16, 1, side // 8, side // 8),
        64,
        1024,
        text=("anima", "te", "AnimaTokenizer"),
        text_options={},
    ),
    Width(
        "Flux.2 Klein 4B",
        "Flux2",
        {
            **_FLUX,
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
        },
        _spatial(128, 16),
        512,
        7680,
        text=("flux", "klein_te", "KleinTokenizer"),
        text_options={},
    ),
)
