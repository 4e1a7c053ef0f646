"""A picture of the relation as it is now, by the host's own sampler."""

import comfy.sample
import torch

from ..method.words import PLACEHOLDER
from .tokens import with_relation


@torch.inference_mode()
def sample(model, clip, vae, vectors, prompt, side, seed, steps=12, cfg=5.0):
    """One picture of a prompt in which `<R>` is the vectors (encoder key -> [k, d]): uint8 [side, side, 3].

    The same seed draws from the same noise, so that only the relation changes.
    """
    clip = with_relation(clip, PLACEHOLDER, vectors)
    positive, negative = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (prompt, ""))
    latent = torch.zeros(1, vae.latent_channels, side // 8, side // 8)
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed))
    samples = comfy.sample.sample(
        model, noise, steps, cfg, "euler", "normal", positive, negative, latent, disable_pbar=True, seed=seed
    )
    return (vae.decode(samples)[0].clamp(0, 1) * 255).byte().cpu().numpy()
