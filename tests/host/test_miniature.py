"""The miniature's compact weights, assembled, are the function that was trained, in the host's own classes."""

import pytest
import torch

from lab.miniature import denoiser, first_stage, pack
from lab.miniature.train import compact


@pytest.fixture(scope="module")
def trained(reversion):
    """A small training's worth of weights: random, with no part at its neutral start."""
    torch.manual_seed(1)
    model, stage = denoiser.Denoiser(), first_stage.FirstStage().eval()
    with torch.no_grad():
        for parameter in [*model.parameters(), *stage.parameters()]:
            parameter.add_(0.02 * torch.randn_like(parameter))
    stage.normalise.running_mean.uniform_(-0.5, 0.5)
    stage.normalise.running_var.uniform_(0.5, 2)
    return model, stage


@pytest.fixture(scope="module")
def in_host(trained, tmp_path_factory):
    import comfy.sd
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("miniature")
    model, stage = trained
    compact(stage, model, folder / "weights.safetensors")
    save_file(pack.assemble(*pack.read_compact(folder / "weights.safetensors")), folder / "checkpoint.safetensors")
    with torch.inference_mode():
        return comfy.sd.load_checkpoint_guess_config(str(folder / "checkpoint.safetensors"))[:3]


def relative(got, expected):
    return float((got - expected).norm() / expected.norm())


def test_text_encoder(trained, in_host):
    caption = "a red circle in front of a blue square"
    with torch.inference_mode():
        clip = in_host[1]
        features = clip.encode_from_tokens(clip.tokenize(caption))
        expected = trained[0].text(denoiser.row_numbers([caption]))
    assert relative(features, expected) < 0.03


def test_unet(trained, in_host):
    generator = torch.Generator().manual_seed(0)
    x, context = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 77, 768, generator=generator)
    t = torch.tensor([700.0, 30.0])
    with torch.inference_mode():
        expected = trained[0](x, t, context)
        assert relative(in_host[0].model.diffusion_model(x, t, context=context), expected) < 0.03


def test_first_stage_and_the_scale_of_its_latents(trained, in_host):
    model, _, vae = in_host
    pictures = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        latents = model.model.process_latent_in(vae.encode(pictures))
        expected = trained[1].encode(pictures.permute(0, 3, 1, 2))
        assert relative(latents, expected) < 0.03
        decoded = vae.decode(model.model.process_latent_out(expected)).permute(0, 3, 1, 2)
        assert relative(decoded, trained[1].decode(expected).clamp(0, 1)) < 0.03


def test_unused_words_have_the_norm_of_used_ones(loaded, core):
    table = core.host.token_table(loaded.clip, "clip_l").float().norm(dim=1)
    used = table[list(denoiser.used_tokens().values())]
    assert float(table.mean()) == pytest.approx(float(used.mean()), rel=0.02)


def test_weights_are_small_enough_to_ship():
    assert pack.WEIGHTS.stat().st_size < 48e6
