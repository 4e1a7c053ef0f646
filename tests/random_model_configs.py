"""Small members of the families beside the miniature: parameters of their networks and text encoders."""

from dataclasses import dataclass, field

from lab.bench import widths
from lab.miniature import mmdit

UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 64,
    "num_res_blocks": [1],
    "channel_mult": [1],
    "transformer_depth": [1],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1],
    "use_linear_in_transformer": True,
    "use_spatial_transformer": True,
    "use_temporal_attention": False,
    "legacy": False,
}
# The host asks for the last layer but one. SD 2.x has no name of its own here, as its text encoder does not give one.
CLIPS = {f"{name}_model_config": {"num_hidden_layers": 3} for name in ("clip_l", "clip_g", "")}
T5 = {"d_model": 64, "d_kv": 16, "num_heads": 4, "d_ff": 96, "num_layers": 3}
LLM = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
TINY_FLUX = {"hidden_size": 128, "num_heads": 1, "depth": 1, "depth_single_blocks": 2}
FLUX = {**widths.FLUX, "context_in_dim": 64, **TINY_FLUX}


@dataclass(frozen=True)
class Member:
    """kind: the host's configuration class; network: its parameters; latents: shape of one picture; text: module of
    comfy.text_encoders, function or class of the encoder, class of the tokenizer; sizes: of the encoders; since: the
    first ComfyUI that has the family; windows: of the tokenizers, where they differ from the family's."""

    kind: str
    network: dict
    latents: tuple
    text: tuple = ()
    sizes: dict = field(default_factory=dict)
    since: tuple = (0, 3)
    windows: dict = field(default_factory=dict)


def _sd3(*keys):
    options = "clip_l={}, clip_g={}, t5={}".format(*(key in keys for key in ("clip_l", "clip_g", "t5xxl")))
    network = mmdit.settings(2, 36, qk_norm="rms", x_block_self_attn_layers=[0])
    sizes = {**CLIPS, "t5xxl_model_config": {**T5, "d_model": 4096, "d_ff": 64}}
    return Member("SD3", network, (16, 8, 8), ("sd3_clip", f"sd3_clip({options})", "SD3Tokenizer"), sizes)


_FLUX_TEXT = {
    "text": ("flux", "flux_clip()", "FluxTokenizer"),
    "sizes": {**CLIPS, "t5xxl_model_config": T5},
}
_T5_TEXT = {"text": ("pixart_t5", "pixart_te()", "PixArtTokenizer"), "sizes": {"t5xxl_model_config": T5}}
MEMBERS = {
    "SD 1.x": Member(
        "SD15",
        {
            **UNET,
            "num_res_blocks": [1, 1],
            "channel_mult": [1, 2],
            "transformer_depth": [1, 1],
            "transformer_depth_output": [1, 1, 1, 1],
            "num_heads": 1,
            "use_linear_in_transformer": False,
            "context_dim": 768,
            "adm_in_channels": None,
        },
        (4, 8, 8),
        sizes=CLIPS,
    ),
    "SD 2.x": Member("SD20", {**UNET, "context_dim": 1024, "adm_in_channels": None}, (4, 8, 8), sizes=CLIPS),
    "SDXL": Member(
        "SDXL",
        {**UNET, "context_dim": 2048, "adm_in_channels": 2816, "num_classes": "sequential"},
        (4, 8, 8),
        sizes=CLIPS,
    ),
    "SD 3.x": _sd3("clip_l", "clip_g", "t5xxl"),
    "SD 3.x without T5": _sd3("clip_l", "clip_g"),
    "SD 3.x with CLIP-L": _sd3("clip_l"),
    "Flux.1": Member("Flux", {**FLUX, "image_model": "flux", "guidance_embed": True}, (16, 8, 8), **_FLUX_TEXT),
    "Flux.1 schnell": Member(
        "FluxSchnell", {**FLUX, "image_model": "flux", "guidance_embed": False}, (16, 8, 8), **_FLUX_TEXT
    ),
    "Chroma": Member(
        "Chroma",
        {
            **FLUX,
            "image_model": "chroma",
            "in_channels": 64,
            "out_channels": 64,
            "in_dim": 64,
            "out_dim": 128,
            "hidden_dim": 128,
            "n_layers": 1,
            "vec_in_dim": None,
        },
        (16, 8, 8),
        **_T5_TEXT,
    ),
    "Z-Image": Member(
        "ZImage",
        {**widths.Z_IMAGE, "dim": 256, "cap_feat_dim": 64, "n_layers": 2, "n_heads": 2, "n_kv_heads": 2},
        (16, 8, 8),
        ("z_image", "te()", "ZImageTokenizer"),
        {"qwen3_4b_model_config": LLM},
    ),
    "Anima": Member(
        "Anima",
        {**widths.ANIMA, "model_channels": 256, "adaln_lora_dim": 32, "num_blocks": 2, "num_heads": 2},
        (16, 1, 8, 8),
        ("anima", "te()", "AnimaTokenizer"),
        {"qwen3_06b_model_config": {**LLM, "hidden_size": 1024}},
        since=(0, 33),
    ),
    "Flux.2 Klein": Member(
        "Flux2",
        {**widths.KLEIN, "context_in_dim": 192, **TINY_FLUX},
        (128, 8, 8),
        ("flux", "klein_te()", "KleinTokenizer"),
        {"qwen3_4b_model_config": {**LLM, "num_hidden_layers": 28}},
        since=(0, 33),
    ),
    "Qwen-Image": Member(
        "QwenImage",
        {
            "image_model": "qwen_image",
            "in_channels": 64,
            "num_layers": 2,
            "num_attention_heads": 1,
            "joint_attention_dim": 64,
        },
        (16, 1, 8, 8),
        ("qwen_image", "te()", "QwenImageTokenizer"),
        {"qwen25_7b_model_config": LLM},
    ),
    "AuraFlow": Member(
        "AuraFlow",
        {
            "max_seq": 256,
            "cond_seq_dim": 64,
            "n_double_layers": 1,
            "n_layers": 2,
            "dim": 128,
            "n_heads": 2,
            "global_conddim": 128,
        },
        (4, 8, 8),
        ("aura_t5", "AuraT5Model", "AuraT5Tokenizer"),
        {"pile_t5xl_model_config": T5},
    ),
    "PixArt": Member(
        "PixArtSigma",
        {
            "image_model": "pixart_sigma",
            "num_heads": 4,
            "patch_size": 2,
            "hidden_size": 96,
            "in_channels": 4,
            "depth": 2,
            "model_max_length": 300,
            "input_size": 64,
            "pe_interpolation": 1,
            "micro_condition": False,
            "caption_channels": 64,
        },
        (4, 40, 40),
        **_T5_TEXT,
    ),
    "Lumina 2": Member(
        "Lumina2",
        {
            **widths.LUMINA_2,
            "dim": 192,
            "cap_feat_dim": 64,
            "n_layers": 2,
            "n_heads": 2,
            "n_kv_heads": 1,
            "ffn_dim_multiplier": 1.0,
        },
        (16, 8, 8),
        ("lumina2", "te()", "LuminaTokenizer"),
        {"gemma2_2b_model_config": LLM},
    ),
}
