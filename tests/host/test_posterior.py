"""The first stage's posterior, read while the host's own VAE encodes."""

import pytest
import torch

from lab.bench.random_checkpoints import FIRST_STAGE


@pytest.fixture(scope="module")
def kl_vae(reversion):
    """The host's SD VAE in its full architecture with random weights."""
    import comfy.sd
    from comfy.ldm.models.autoencoder import AutoencoderKL

    torch.manual_seed(0)
    weights = AutoencoderKL(ddconfig=FIRST_STAGE, embed_dim=4).state_dict()
    weights = {
        name: torch.randn_like(w) * 0.02 if w.ndim > 1 else torch.ones_like(w) * 0.5 for name, w in weights.items()
    }
    with torch.inference_mode():
        return comfy.sd.VAE(sd=weights)


def test_mean_is_the_host_s_encoding_and_std_its_moments(core, kl_vae):
    pictures = torch.rand(2, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        mean, std, _ = core.host.posterior(kl_vae, pictures)
        moments = []
        hook = kl_vae.first_stage_model.regularization.register_forward_hook(
            lambda m, i, o: moments.append(i[0].float())
        )
        expected = kl_vae.encode(pictures)
        hook.remove()
    torch.testing.assert_close(mean, expected, rtol=1e-4, atol=1e-5)
    variance = moments[0].chunk(2, 1)[1].clamp(-30, 20).exp()
    torch.testing.assert_close(std**2, variance, rtol=1e-3, atol=1e-6)
    assert not kl_vae.first_stage_model.regularization._forward_hooks


def test_taesd_has_no_spread(core, loaded, drawn):
    with torch.inference_mode():
        mean, std, _ = core.host.scaled_posterior(loaded.model, loaded.vae, torch.from_numpy(drawn.fitted(64)))
    assert mean.shape == (8, 4, 8, 8) and (std == 0).all()


def test_of_a_picture_that_is_encoded_in_tiles_the_spread_is_unknown_and_of_the_others_not(core, kl_vae, monkeypatch):
    """As the host does where a card has too little memory for a picture as a whole."""
    pictures = torch.rand(3, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole = core.host.posterior(kl_vae, pictures)
        encode, calls = kl_vae.first_stage_model.encode, []

        def runs_out_once(*args, **kwargs):
            calls.append(1)
            if len(calls) == 2:
                raise torch.OutOfMemoryError("simulated")
            return encode(*args, **kwargs)

        monkeypatch.setattr(kl_vae.first_stage_model, "encode", runs_out_once)
        found = core.host.posterior(kl_vae, pictures)
    assert whole.tiled == () and found.tiled == (1,) and len(calls) > 4
    assert torch.equal(found.std[[0, 2]], whole.std[[0, 2]]) and (found.std[1] == 0).all()
