"""Exemplars in the host's latent space."""

from typing import NamedTuple

import torch


class Posterior(NamedTuple):
    """mean, std: float32 [n, c, h / 8, w / 8] for n pictures; other families have other factors, and those of video
    models [n, c, 1, ...]. tiled: numbers of the pictures that the host encoded in tiles, for want of memory: of these
    the mean is a blend and the spread unknown, which counts as 0."""

    mean: torch.Tensor
    std: torch.Tensor
    tiled: tuple[int, ...] = ()


def posterior(vae, pixels) -> Posterior:
    """The first stage's Posterior of pictures, each [h, w, 3] in 0..1.

    The host's own `encode` does the work (device, dtype, tiling); a hook reads the moments it computes on the way.
    A first stage without a posterior (TAESD) has standard deviation 0.
    """
    moments, means, stds, tiled = [], [], [], []
    regularization = getattr(vae.first_stage_model, "regularization", None)
    hook = regularization and regularization.register_forward_hook(
        lambda module, inputs, output: moments.append(inputs[0].float().cpu())
    )
    try:
        for number, picture in enumerate(pixels):
            moments.clear()
            means.append(vae.encode(picture[None]).float().cpu())
            stds.append(_std(moments[0], means[-1]) if len(moments) == 1 else torch.zeros_like(means[-1]))
            if len(moments) > 1:
                tiled.append(number)
    finally:
        if hook:
            hook.remove()
    return Posterior(torch.cat(means), torch.cat(stds), tuple(tiled))


def _std(moments, mean):
    log_variance = moments.chunk(2, dim=1)[1]
    if log_variance.shape != mean.shape:
        return torch.zeros_like(mean)
    return torch.exp(0.5 * log_variance.clamp(-30, 20))


def scaled_posterior(model, vae, pixels) -> Posterior:
    """`posterior` in the scale that the model is trained in, by the latent format that a node may have set."""
    found = posterior(vae, pixels)
    changed = model.object_patches.get("latent_format")
    into = model.model.process_latent_in if changed is None else changed.process_in
    scaled = into(found.mean)
    return found._replace(mean=scaled, std=into(found.mean + found.std) - scaled)
