"""The miniature in the host's own classes, in this process: many prompts in one batch, for measuring.

The pictures are those of the host's CLIP Text Encode, KSampler (by default euler, normal) and VAE Decode with the same
seeds; a stochastic sampler adds noise of its own, the same for the same place in a batch.
"""

from collections.abc import Sequence

import numpy as np
import torch

from lab.harness import comfyui, server
from lab.miniature import denoiser, world
from lab.miniature.forms import FORMS


class Studio:
    """The miniature, loaded: `model`, `clip` and `vae` are the host's, `host` and `run` the pack's modules for them.

    family: of `FORMS`.
    """

    def __init__(self, family: str = "sd1"):
        comfyui.make_importable()
        import comfy.sd

        from reversion_core import host as core_host
        from reversion_core.training import run

        self.host, self.run = core_host, run

        self.form = FORMS[family]
        path = server.miniature(self.form)
        with torch.inference_mode():
            # The other layers of the text encoder are the identity: without them it is the same function, faster.
            options = {"clip_l_model_config": {"num_hidden_layers": self.form.layers}}
            self.model, self.clip, self.vae, _ = comfy.sd.load_checkpoint_guess_config(
                str(path), te_model_options=options
            )
            if family == "sd1":
                _narrow(self.model.model.diffusion_model)

    @torch.inference_mode()
    def encode(self, prompts: Sequence[str], clip=None) -> list:
        """The host's conditioning of prompts, of one batch; clip: the host's CLIP, by default the checkpoint's."""
        clip = clip or self.clip
        encoded = [clip.encode_from_tokens(clip.tokenize(prompt), return_pooled=True) for prompt in prompts]
        features, pooled = zip(*encoded, strict=True)
        # An encoder of one kind of features only, as T5, has nothing pooled.
        return [[torch.cat(features), {"pooled_output": None if pooled[0] is None else torch.cat(pooled)}]]

    @torch.inference_mode()
    def draw(self, prompts: Sequence[str], seeds: Sequence[int], clip=None, **sampling) -> np.ndarray:
        """One picture a prompt, uint8 [n, 64, 64, 3]; each from its own seed. sampling: see `sample`."""
        return self.decode(self.sample(prompts, seeds, clip, **sampling))

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """The pictures of latents [n, channels, h, w], uint8 [n, 64, 64, 3]."""
        pictures = (self.vae.decode(latents).clamp(0, 1) * 255).byte().cpu().numpy()
        return np.stack([world.reduced(picture) for picture in pictures])

    def noise(self, seeds: Sequence[int]) -> torch.Tensor:
        """The host's noise of each seed, float32 [n, channels, h, w]."""
        import comfy.sample

        side = self.form.side // 8
        latent = torch.zeros(1, self.form.channels, side, side)
        return torch.cat([comfy.sample.prepare_noise(latent, seed) for seed in seeds])

    @torch.inference_mode()
    def sample(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        clip=None,
        steps: int = 20,
        cfg: float = 4.0,
        alpha: float = 0.0,
        guidance: tuple[Sequence[str], float, float] | None = None,
        sampler: str = "euler",
        scheduler: str | None = None,
    ) -> torch.Tensor:
        """The latents of one picture a prompt, float32 [n, channels, h, w]; each from its own seed.

        alpha: of the focal scheduler, which is used where `scheduler` names none of the host's; guidance: (plain
        prompts, strength, alpha) of the focal guider, None for ordinary guidance.
        """
        import comfy.samplers

        noise = self.noise(seeds)
        positive, negative = (self.encode(texts, clip) for texts in (prompts, [""]))
        if guidance is None:
            guider = comfy.samplers.CFGGuider(self.model)
            guider.set_conds(positive, negative)
        else:
            plain, strength, guider_alpha = guidance
            guider = self.host.FocalGuider(self.model)
            guider.set_conds(positive, self.encode(plain, clip), negative)
            guider.set_focus(strength, guider_alpha)
        guider.set_cfg(cfg)
        levels = self.model.get_model_object("model_sampling")
        if scheduler is None:
            sigmas = self.host.focal_sigmas(levels, steps, alpha)
        else:
            sigmas = comfy.samplers.calculate_sigmas(levels, scheduler, steps)
        sampler = comfy.samplers.sampler_object(sampler)
        return guider.sample(noise, torch.zeros_like(noise), sampler, sigmas, disable_pbar=True, seed=0)


def _narrow(unet: torch.nn.Module) -> None:
    """Leave out the zeros around convolutions that have a centre only: the same function, a fifth faster."""
    for name in denoiser.CENTRE_ONLY:
        convolution = unet.get_submodule(name)
        centre = convolution.weight[:, :, 1:2, 1:2].contiguous()
        convolution.weight = torch.nn.Parameter(centre, requires_grad=False)
        convolution.kernel_size, convolution.padding = (1, 1), (0, 0)
