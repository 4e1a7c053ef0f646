"""The benchmark's short cuts change nothing of what the host's own nodes would draw."""

import torch

from lab.harness.studio import Studio


def test_the_studio_draws_what_the_host_s_nodes_draw(core, loaded):
    import comfy.sample

    prompts, seeds = ["red circle above blue square", "green star inside yellow heart"], (7, 8)
    ours = Studio().draw(prompts, seeds, steps=3, cfg=4.0)
    clip, latent = loaded.clip, torch.zeros(1, 4, 8, 8)
    for prompt, seed, picture in zip(prompts, seeds, ours, strict=True):
        with torch.inference_mode():
            positive, negative = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (prompt, ""))
            noise = comfy.sample.prepare_noise(latent, seed)
            samples = comfy.sample.sample(
                loaded.model, noise, 3, 4.0, "euler", "normal", positive, negative, latent, disable_pbar=True, seed=seed
            )
            native = (loaded.vae.decode(samples)[0].clamp(0, 1) * 255).byte()
        difference = (native.int() - torch.from_numpy(picture).int()).abs()
        assert difference.max() <= 1  # rounding
