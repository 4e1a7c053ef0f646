"""The miniature in the host's own classes, in this process: many prompts in one batch, for measuring.

The pictures are those of the host's CLIP Text Encode, KSampler (euler, normal) and VAE Decode with the same seeds.
"""

import numpy as np
import torch

from . import denoiser, host, pack, server


class Studio:
    def __init__(self):
        """Load the checkpoint; `model`, `clip` and `vae` are the host's."""
        host.enter()
        import comfy.sd

        path = server.MODELS / server.CHECKPOINT
        pack.write_checkpoint(path)
        with torch.inference_mode():
            # The other layers of the text encoder are the identity: without them it is the same function, faster.
            options = {"clip_l_model_config": {"num_hidden_layers": denoiser.LAYERS}}
            self.model, self.clip, self.vae, _ = comfy.sd.load_checkpoint_guess_config(
                str(path), te_model_options=options
            )

    @torch.inference_mode()
    def encode(self, prompts, clip=None):
        """Text features of prompts, float32 [n, 77, 768]."""
        clip = clip or self.clip
        return torch.cat([clip.encode_from_tokens(clip.tokenize(prompt)) for prompt in prompts])

    @torch.inference_mode()
    def draw(self, prompts, seeds, clip=None, steps=20, cfg=4.0):
        """One picture a prompt, uint8 [n, 64, 64, 3]; each from its own seed."""
        import comfy.sample

        latents = torch.zeros(len(prompts), 4, 8, 8)
        noise = torch.cat([comfy.sample.prepare_noise(latents[:1], seed) for seed in seeds])
        positive = [[self.encode(prompts, clip), {}]]
        negative = [[self.encode([""]), {}]]
        samples = comfy.sample.sample(
            self.model, noise, steps, cfg, "euler", "normal", positive, negative, latents, disable_pbar=True, seed=0
        )
        return (self.vae.decode(samples).clamp(0, 1) * 255).byte().cpu().numpy()


def measures(pictures, pairs, relation, exemplar_entities):
    """DESIGN's measures a picture: {"relation", "entity", "leakage": bool [n]}."""
    from . import judge

    seen = [judge.look(picture) for picture in pictures]
    both = list(zip(seen, pairs, strict=True))
    return {
        "relation": np.array([look.relation(*pair) == relation for look, pair in both]),
        "entity": np.array([all(look.has(entity) for entity in pair) for look, pair in both]),
        "leakage": np.array(
            [any(e in exemplar_entities and e not in pair for e in look.entities) for look, pair in both]
        ),
    }
