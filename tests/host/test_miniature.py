"""The miniature's compact weights, assembled, are the function that was trained, in the host's own classes."""

import dataclasses

import pytest
import torch

from lab.miniature import denoiser, first_stage, mmdit, pack
from lab.miniature.forms import FORMS, SHARED
from lab.miniature.train import compact, trained_before


@pytest.fixture(scope="module", params=FORMS)
def form(request):
    return FORMS[request.param]


@pytest.fixture(scope="module")
def trained(form, reversion):
    """A small training's worth of weights: random, with no part at its neutral start."""
    torch.manual_seed(1)
    model, stage = denoiser.Denoiser(), first_stage.FirstStage(form.channels).eval()
    if form is FORMS["sd3"]:
        model = mmdit.Denoiser(trained_before()[1].text)
        model.standardise(denoiser.row_numbers(["a red circle", "blue square"], denoiser.SHORT_TOKENS))
    with torch.no_grad():
        for parameter in [*model.parameters(), *stage.parameters()]:
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
    stage.normalise.running_mean.uniform_(-0.5, 0.5)
    stage.normalise.running_var.uniform_(0.5, 2)
    return model, stage


@pytest.fixture(scope="module")
def in_host(form, trained, tmp_path_factory):
    import comfy.sd

    folder = tmp_path_factory.mktemp("miniature")
    model, stage = trained
    compact(stage, model, folder / "weights.safetensors")
    weights = tuple(dict.fromkeys([*form.weights[:-1], folder / "weights.safetensors"]))
    pack.write_checkpoint(folder / "checkpoint.safetensors", dataclasses.replace(form, weights=weights))
    with torch.inference_mode():
        return comfy.sd.load_checkpoint_guess_config(str(folder / "checkpoint.safetensors"))[:3]


def relative(got, expected):
    return float((got - expected).norm() / expected.norm())


@torch.inference_mode()
def test_text_encoder(form, trained, in_host):
    caption, clip = "a red circle in front of a blue square", in_host[1]
    rows = denoiser.row_numbers([caption])
    got = clip.encode_from_tokens(clip.tokenize(caption), return_pooled=True)
    expected = trained[0].encode(rows) if form is FORMS["sd3"] else (trained[0].text(rows),)
    for features, wanted in zip(got, expected, strict=False):
        assert relative(features, wanted) < 0.03


@torch.inference_mode()
def test_denoiser(form, trained, in_host):
    generator = torch.Generator().manual_seed(0)
    side = form.side // 8
    x, t = torch.randn(2, form.channels, side, side, generator=generator), torch.tensor([700.0, 30.0])
    network = in_host[0].model.diffusion_model
    if form is FORMS["sd3"]:
        context, pooled = trained[0].encode(denoiser.row_numbers(["red circle on blue square", "green star"]))
        expected, got = trained[0](x, t, context, pooled), network(x, t, context=context, y=pooled)
    else:
        context = torch.randn(2, 77, 768, generator=generator)
        expected, got = trained[0](x, t, context), network(x, t, context=context)
    assert relative(got, expected) < 0.03


@torch.inference_mode()
def test_first_stage_and_the_scale_of_its_latents(form, trained, in_host):
    model, _, vae = in_host
    pictures = torch.rand(2, form.side, form.side, 3, generator=torch.Generator().manual_seed(0))
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
    assert SHARED.stat().st_size < 48e6
