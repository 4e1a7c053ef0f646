"""Small models of the families, in the host's own classes, with random weights.

No real checkpoint of them is at hand; these have every part that training and sampling touch: the text encoders of the
family with a few narrow layers, behind its own tokenizer and template, and a network of one or two blocks.
"""

import importlib
from types import SimpleNamespace

import torch
from random_model_configs import MEMBERS

from lab.bench.widths import known


@torch.no_grad()
def randomise(module, generator):
    """Weights that keep the size of what passes through; normalisations start as the identity."""
    for name, weight in module.named_parameters():
        if "embedding" in name or "embed_tokens" in name or "shared" in name:
            _fill(weight, 0.02 if "clip" in name or "token_embedding" in name else 0.5, generator)
        elif weight.ndim > 1:
            _fill(weight, max(weight[0].numel(), 1) ** -0.5, generator)
        else:
            weight.fill_(float(name.endswith(("weight", "scale"))))
    # Buffers that a checkpoint brings are left as the memory was.
    kept = module.state_dict().keys()
    for name, buffer in module.named_buffers():
        if name in kept and buffer.is_floating_point():
            _fill(buffer, 0.02, generator)


def _fill(weight, std, generator):
    """Normal numbers; tables repeat theirs, which is quicker."""
    numbers = torch.empty(min(weight.numel(), 2**20 + 7)).normal_(0, std, generator=generator)
    weight.copy_(numbers.repeat(weight.numel() // len(numbers) + 1)[: weight.numel()].view_as(weight))


def exists(name):
    """Whether this host has the family."""
    import comfyui_version

    version = tuple(map(int, comfyui_version.__version__.split(".")[:2]))
    return version >= MEMBERS[name].since


def _clip_target(member, config):
    import comfy.supported_models_base

    if not member.text:
        return config.clip_target({})
    module, made, tokenizer = member.text
    module = importlib.import_module(f"comfy.text_encoders.{module}")
    function, _, arguments = made.partition("(")
    encoder = getattr(module, function)
    if arguments:
        given = [argument.split("=") for argument in arguments.rstrip(")").split(", ") if argument]
        encoder = encoder(**{key: value == "True" for key, value in given})
    return comfy.supported_models_base.ClipTarget(getattr(module, tokenizer), encoder)


def _tokenizer_data():
    """Gemma's tokenizer comes in the checkpoint; another of its kind stands in for it."""
    import comfy.text_encoders

    folder = next(iter(comfy.text_encoders.__path__))
    with open(f"{folder}/t5_pile_tokenizer/tokenizer.model", "rb") as file:
        return {"spiece_model": torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)}


def build(name, embeddings, vae=None, dtype=torch.float32, compute=None):
    """MODEL and CLIP of a family, as the host's loader leaves them: their weights are inference tensors.

    dtype: of the network's weights; compute: what the host casts them to, None for nothing.
    """
    import comfy.model_patcher
    import comfy.sd
    import comfy.supported_models

    member = MEMBERS[name]
    config = getattr(comfy.supported_models, member.kind)(dict(known(member.network)))
    config.set_inference_dtype(dtype, compute)
    generator = torch.Generator().manual_seed(1)
    cpu = torch.device("cpu")
    with torch.inference_mode():
        base = config.get_model({}, device=cpu)
        base.diffusion_model.to(torch.float32)
        clip = comfy.sd.CLIP(
            _clip_target(member, config),
            [str(embeddings)],
            tokenizer_data=_tokenizer_data() if "gemma2_2b_model_config" in member.sizes else member.windows,
            model_options={"dtype": torch.float32, **member.sizes},
        )
        for part in list(clip.cond_stage_model.modules()):
            if hasattr(part, "visual"):  # Qwen2.5-VL's eyes, which have one size
                part.visual = torch.nn.Identity()
        for module in (base.diffusion_model, clip.cond_stage_model):
            randomise(module, generator)
        for weight in base.diffusion_model.parameters():  # not tables of positions, which no checkpoint brings
            weight.data = weight.data.to(dtype)
    model = comfy.model_patcher.ModelPatcher(base, load_device=cpu, offload_device=cpu)
    return SimpleNamespace(model=model, clip=clip, vae=vae, latents=member.latents)
