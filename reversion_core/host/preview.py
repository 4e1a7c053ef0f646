"""A picture of the relation as it is now, by the host's own sampler."""

import comfy.sample
import numpy as np
import torch

from .. import families
from ..method.words import PLACEHOLDER
from .tokens import with_relation


@torch.inference_mode()
def draw_preview(model, clip, vae, vectors, prompt, side, seed, steps=12, cfg=None) -> np.ndarray:
    """One picture of a prompt in which `<R>` is the vectors (encoder key -> [k, d]): uint8 [side, side, 3].

    The same seed draws from the same noise, so that only the relation changes. cfg: None for the family's.
    """
    family = families.of_config(type(model.model.model_config).__name__)
    clip = with_relation(clip, PLACEHOLDER, vectors)
    texts = families.whole_prompt(family, prompt), ""
    positive, negative = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in texts)
    latent = empty_latent(model, vae, side)
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed))
    cfg = family.preview_cfg if cfg is None else cfg
    samples = comfy.sample.sample(
        model, noise, steps, cfg, "euler", "normal", positive, negative, latent, disable_pbar=True, seed=seed
    )
    pictures = vae.decode(samples)  # [1, h, w, 3], of video VAEs [1, 1, h, w, 3]
    return (pictures.flatten(0, -4)[0].clamp(0, 1) * 255).byte().cpu().numpy()


def empty_latent(model, vae, side: int) -> torch.Tensor:
    """Zeros of the shape of one square picture's latents: [1, c, h, w] or, of video models, [1, c, 1, h, w]."""
    latents = model.get_model_object("latent_format")
    small = side // vae.spacial_compression_encode()
    frames = [1] if latents.latent_dimensions == 3 else []
    return torch.zeros(1, latents.latent_channels, *frames, small, small)
