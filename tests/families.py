"""Small models of the families beside SD 1.x, in the host's own classes, with random weights.

No real checkpoint of them is at hand; these have every part that training and sampling touch: the text encoders of the
family at their full width with three layers, and a UNet of one level.
"""

from types import SimpleNamespace

import torch

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
FAMILIES = {
    "SD 2.x": ("SD20", {"context_dim": 1024, "adm_in_channels": None}),
    "SDXL": ("SDXL", {"context_dim": 2048, "adm_in_channels": 2816, "num_classes": "sequential"}),
}
# The host asks for the last layer but one. SD 2.x has no name of its own here, as its text encoder does not give one.
THREE_LAYERS = {f"{name}_model_config": {"num_hidden_layers": 3} for name in ("clip_l", "clip_g", "")}


@torch.no_grad()
def randomise(module, generator):
    """Weights that keep the size of what passes through; normalisations start as the identity."""
    for name, weight in module.named_parameters():
        if "embedding" in name:
            weight.normal_(0, 0.02, generator=generator)
        elif weight.ndim > 1:
            weight.normal_(0, weight[0].numel() ** -0.5, generator=generator)
        else:
            weight.fill_(float(name.endswith("weight")))


def build(name, embeddings, vae=None):
    """MODEL and CLIP of a family, as the host's loader leaves them: their weights are inference tensors."""
    import comfy.model_patcher
    import comfy.sd
    import comfy.supported_models

    kind, dimensions = FAMILIES[name]
    config = getattr(comfy.supported_models, kind)({**UNET, **dimensions})
    config.set_inference_dtype(torch.float32, None)
    generator = torch.Generator().manual_seed(1)
    cpu = torch.device("cpu")
    with torch.inference_mode():
        base = config.get_model({}, device=cpu)
        clip = comfy.sd.CLIP(
            config.clip_target({}), [str(embeddings)], model_options={"dtype": torch.float32, **THREE_LAYERS}
        )
        for module in (base.diffusion_model, clip.cond_stage_model):
            randomise(module, generator)
    model = comfy.model_patcher.ModelPatcher(base, load_device=cpu, offload_device=cpu)
    return SimpleNamespace(model=model, clip=clip, vae=vae)
