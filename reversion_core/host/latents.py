"""Exemplars in the host's latent space."""

import torch


def posterior(vae, pixels):
    """Mean and standard deviation of the first stage's posterior for n pictures, each [h, w, 3] in 0..1.

    The host's own `encode` does the work (device, dtype, tiling); a hook reads the moments it computes on the way.
    A first stage without a posterior (TAESD) has standard deviation 0. float32 [n, c, h / 8, w / 8] each; others have
    other factors, and those of video models [n, c, 1, ...].
    """
    moments = []
    regularization = getattr(vae.first_stage_model, "regularization", None)
    hook = regularization and regularization.register_forward_hook(
        lambda module, inputs, output: moments.append(inputs[0].float().cpu())
    )
    try:
        means = torch.cat([vae.encode(picture[None]).float().cpu() for picture in pixels])
    finally:
        if hook:
            hook.remove()
    std = torch.zeros_like(means)
    # Tiled encoding after running out of memory gives moments of tiles: then the mean alone is used.
    if len(moments) == len(means):
        log_variance = torch.cat(moments).chunk(2, dim=1)[1]
        if log_variance.shape == means.shape:
            std = torch.exp(0.5 * log_variance.clamp(-30, 20))
    return means, std


def scaled_posterior(model, vae, pixels):
    """`posterior` in the scale that the model is trained in, by the latent format that a node may have set."""
    mean, std = posterior(vae, pixels)
    changed = model.object_patches.get("latent_format")
    into = model.model.process_latent_in if changed is None else changed.process_in
    scaled = into(mean)
    return scaled, into(mean + std) - scaled
