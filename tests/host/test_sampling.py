"""The focal scheduler and guider beside the host's own, through the host's samplers."""

import pytest
import torch
from training import PREDICTIONS, with_prediction

CFG = 4.0
# What the host's nodes turn a model into: nothing, or the arguments of one of them.
KINDS = {
    "eps": (),
    "zsnr": ("ModelSamplingDiscrete", "v_prediction", True),
    "lcm": ("ModelSamplingDiscrete", "lcm", False),
    "flow": ("ModelSamplingSD3", 3.0),
    "flow of multiplier 1": ("ModelSamplingAuraFlow", 1.73),
    "flux": ("ModelSamplingFlux", 1.15, 0.5, 1024, 1024),
}


def of_kind(model, kind):
    """A clone of the host's model that is sampled as another kind, by the host's own node."""
    from comfy_extras import nodes_model_advanced

    if not KINDS[kind]:
        return model
    name, *values = KINDS[kind]
    node = getattr(nodes_model_advanced, name)
    return getattr(node(), node.FUNCTION)(model, *values)[0]


@pytest.fixture(scope="module")
def conditionings(core, loaded):
    """Relation, plain and negative prompts as the host's CONDITIONING."""
    vectors = {"clip_l": torch.randn(1, 768, generator=torch.Generator().manual_seed(0)) * 0.02}
    clip = core.host.with_relation(loaded.clip, "<R>", vectors)
    prompts = ("red circle <R> blue square", "red circle and blue square", "")
    with torch.inference_mode():
        return [clip.encode_from_tokens_scheduled(clip.tokenize(prompt)) for prompt in prompts]


def theirs(model, positive, negative, cfg=CFG):
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider


def ours(core, model, conditionings, strength, alpha, cfg=CFG):
    guider = core.host.FocalGuider(model)
    guider.set_conds(*conditionings)
    guider.set_cfg(cfg)
    guider.set_focus(strength, alpha)
    return guider


def sampled(guider, sigmas, latent=None, mask=None):
    import comfy.samplers

    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    latent = torch.zeros(1, 4, 8, 8) if latent is None else latent
    with torch.inference_mode():
        sampler = comfy.samplers.sampler_object("euler")
        return guider.sample(noise, latent, sampler, sigmas, denoise_mask=mask, disable_pbar=True, seed=0).clone()


def sigmas_of(core, model, steps=4, alpha=0.0, denoise=1.0):
    return core.host.focal_sigmas(core.host.focal_sampling(model, "test"), steps, alpha, denoise)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("denoise", [1.0, 0.6, 0.0])
@pytest.mark.parametrize("steps", [1, 2, 20])
def test_alpha_zero_is_the_host_s_normal_schedule(core, loaded, kind, steps, denoise):
    from comfy_extras.nodes_custom_sampler import BasicScheduler

    model = of_kind(loaded.model, kind)
    expected = BasicScheduler.execute(model, "normal", steps, denoise).result[0]
    assert torch.equal(sigmas_of(core, model, steps, 0.0, denoise), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alpha", [1e-6, 0.5, 1.0])
def test_alpha_moves_the_steps_to_high_noise(core, loaded, kind, alpha):
    model = of_kind(loaded.model, kind)
    levels = core.host.focal_sampling(model, "test").sigmas
    sigmas = sigmas_of(core, model, 200, alpha)
    assert len(sigmas) == 201 and (sigmas.diff() < 0).all() and sigmas[-1] == 0
    torch.testing.assert_close(sigmas[0], levels[-1])
    # The integral of f over the upper half of the table, which is what a flow model's shift is applied to.
    share = float((torch.searchsorted(levels, sigmas[:-1]) >= len(levels) / 2).float().mean())
    assert share == pytest.approx(0.5 + alpha / torch.pi, abs=0.015)


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("steps", [3, 4, 8, 20, 50])
def test_no_step_goes_further_beyond_the_one_before_than_on_the_normal_schedule(core, loaded, steps, alpha):
    # Samplers that extrapolate from the steps before overshoot by a power of this.
    def growth(alpha):
        steps_in_log = -sigmas_of(core, loaded.model, steps, alpha)[:-1].log().diff()
        return float((steps_in_log[1:] / steps_in_log[:-1]).max())

    assert growth(alpha) <= growth(0.0) * 1.001


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("task", ["text to image", "image to image", "inpaint"])
def test_neutral_guidance_is_the_host_s(core, loaded, conditionings, prediction, task):
    model = with_prediction(loaded.model, prediction)
    relation, _, negative = conditionings
    given = {"sigmas": sigmas_of(core, model, denoise=1.0 if task == "text to image" else 0.6)}
    if task != "text to image":
        given["latent"] = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    if task == "inpaint":
        given["mask"] = torch.zeros(1, 1, 8, 8)
        given["mask"][..., 4:] = 1
    expected = sampled(theirs(model, relation, negative), **given)
    assert torch.equal(sampled(ours(core, model, conditionings, CFG, 0.0), **given), expected)


def test_strength_zero_is_the_plain_prompt(core, loaded, conditionings):
    _, plain, negative = conditionings
    sigmas = sigmas_of(core, loaded.model)
    expected = sampled(theirs(loaded.model, plain, negative), sigmas)
    assert torch.equal(sampled(ours(core, loaded.model, conditionings, 0.0, 0.5), sigmas), expected)


def test_strength_has_no_effect_between_equal_prompts(core, loaded, conditionings):
    relation, _, negative = conditionings
    sigmas = sigmas_of(core, loaded.model)
    same = (relation, relation, negative)
    results = [sampled(ours(core, loaded.model, same, s, a), sigmas) for s, a in ((1.0, 0.3), (9.0, 1.0))]
    torch.testing.assert_close(*results, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "cfg"), [("eps", CFG), ("eps", 1.0), ("eps", 0.5), ("eps", 0.0), ("zsnr", CFG), ("flow", CFG)]
)
def test_guidance_is_the_equation(core, loaded, conditionings, kind, cfg):
    model = of_kind(loaded.model, kind)
    relation, plain, negative = conditionings
    sampling = core.host.focal_sampling(model, "test")
    for t, strength, alpha in ((900, 6.0, 0.5), (300, 2.0, 1.0), (300, 2.0, 0.0)):
        # One Euler step to noise 0 gives the guided prediction of the picture, which is linear in the noise's.
        sigmas = torch.tensor([float(sampling.sigmas[t]), 0.0])
        e_r, e_p, e_n = (sampled(theirs(model, c, negative, 1.0), sigmas) for c in (relation, plain, negative))
        f = 1 - alpha * torch.cos(torch.tensor(torch.pi * t / 1000))
        expected = e_n + cfg * (e_p - e_n) + strength * f * (e_r - e_p)
        got = sampled(ours(core, model, conditionings, strength, alpha, cfg), sigmas)
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("cfg", [CFG, 0.5])
def test_guidance_of_other_nodes_is_kept(core, loaded, conditionings, cfg):
    model, relation, plain = loaded.model.clone(), *conditionings[:2]
    model.set_model_sampler_cfg_function(lambda arguments: torch.zeros_like(arguments["input"]))
    sigmas = sigmas_of(core, model, 2)
    assert torch.equal(
        sampled(ours(core, model, conditionings, 2.0, 0.5, cfg), sigmas),
        sampled(theirs(model, relation, plain, cfg), sigmas),
    )


@pytest.mark.parametrize("plugged", ["guidance", "attention", "network"])
def test_what_knows_of_two_prompts_only_does_not_meet_a_third(core, loaded, conditionings, plugged):
    """As Skip Layer Guidance's simple form, and packs that tell a picture's prompts by their place."""
    import comfy.samplers

    model = loaded.model.clone()

    def of_two(arguments):
        given, (positive, negative) = arguments["input"], arguments["conds"]
        options = arguments["sigma"], arguments["model_options"]
        return comfy.samplers.calc_cond_batch(arguments["model"], [positive, negative], given, *options)

    def by_place(q, k, v, extra):
        strengths = torch.tensor([(0.5, 2.0)[place] for place in extra["cond_or_uncond"]])
        return q, k, v * strengths.repeat_interleave(len(v) // len(strengths))[:, None, None]

    def around(apply_model, arguments):
        strengths = torch.tensor([(0.5, 2.0)[place] for place in arguments["cond_or_uncond"]])
        return apply_model(arguments["input"], arguments["timestep"], **arguments["c"]) * strengths[:, None, None, None]

    if plugged == "guidance":
        model.set_model_sampler_calc_cond_batch_function(of_two)
    elif plugged == "network":
        model.set_model_unet_function_wrapper(around)
    else:
        model.set_model_attn2_patch(by_place)
    relation, plain, negative = conditionings
    sigmas = torch.tensor([float(core.host.focal_sampling(model, "test").sigmas[300]), 0.0])
    e_r, e_p, e_n = (
        sampled(theirs(model, c, negative, cfg), sigmas) for c, cfg in ((relation, 1.0), (plain, 1.0), (plain, 0.0))
    )
    expected = e_n + CFG * (e_p - e_n) + 2 * (e_r - e_p)
    torch.testing.assert_close(
        sampled(ours(core, model, conditionings, 2.0, 0.0), sigmas), expected, rtol=1e-3, atol=1e-3
    )


def test_where_another_node_sets_cfg_the_strength_goes_with_it(core, loaded, conditionings):
    """As CFG Override: the guidance that was neutral stays so."""
    guider = ours(core, loaded.model, conditionings, CFG, 0.0)
    guider.cfg = 1.5
    sigmas = sigmas_of(core, loaded.model, 2)
    expected = sampled(theirs(loaded.model, conditionings[0], conditionings[2], 1.5), sigmas)
    assert torch.equal(sampled(guider, sigmas), expected)
    focal, half = (
        ours(core, loaded.model, conditionings, 6.0, 0.5),
        ours(core, loaded.model, conditionings, 3.0, 0.5, 2.0),
    )
    focal.cfg = 2.0
    torch.testing.assert_close(sampled(focal, sigmas), sampled(half, sigmas))


def test_guidance_costs_at_most_one_more_prediction_a_step(core, loaded, conditionings):
    import comfy.patcher_extension

    def predictions(strength, alpha):
        model, counted = loaded.model.clone(), []

        def count(apply_model, x, *arguments, **options):
            counted.append(len(x))
            return apply_model(x, *arguments, **options)

        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, "count", count)
        sampled(ours(core, model, conditionings, strength, alpha), sigmas_of(core, model, steps=3))
        return sum(counted)

    assert predictions(CFG, 0.0) == predictions(0.0, 0.5) == 6
    assert predictions(CFG, 0.5) == 9


@pytest.mark.parametrize("node", ["ReVersionFocalScheduler", "ReVersionFocalGuider"])
def test_a_model_without_timesteps_is_refused(core, reversion, loaded, node):
    import comfy_extras.nodes_model_advanced as advanced

    (model,) = advanced.ModelSamplingContinuousEDM().patch(loaded.model, "edm", 80.0, 0.1)
    given = (20, 0.5, 1.0) if node == "ReVersionFocalScheduler" else (None, None, None, 4.0, 4.0, 0.5)
    with pytest.raises(core.errors.ReVersionError, match="a model with ModelSamplingContinuousEDM has no timesteps"):
        getattr(reversion.nodes.sampling, node).execute(model, *given)
