"""Half precision, at the size where it matters: 512 x 512 pixels, as the host computes on graphics cards."""

import pytest
import random_models
import torch
import torch.nn.functional as F
from training import relation_of, short_training

SIDE = 64  # of the latents


class AccumulatesInFloat32(torch.overrides.TorchFunctionMode):
    """Products of half precision numbers summed in float32 and rounded once, as graphics cards do.

    A CPU has no quick kernels for float16. Gradients are rounded where they leave an operation, as there.
    """

    OPERATIONS = (F.linear, F.conv2d, torch.conv2d, F.scaled_dot_product_attention)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func not in self.OPERATIONS or args[0].dtype == torch.float32:
            return func(*args, **(kwargs or {}))
        return func(*map(_float, args), **{k: _float(v) for k, v in (kwargs or {}).items()}).to(args[0].dtype)


def _float(value):
    return value.float() if torch.is_tensor(value) and value.is_floating_point() else value


def gradient(core, given, drawn, dtype, scaled=True):
    """R's gradient in one update: encoder key -> float32 [1, d]. dtype: None for what the host loaded."""
    inputs = short_training(core, drawn, accumulation=1, prior="none")  # of the pictures alone
    tokens = core.host.caption_tokens(given.clip, inputs.captions, 1)
    model, clip = core.host.load_for_training(given.model, given.clip, "test")
    mean = torch.randn(8, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with core.host.borrowed_model(model, clip, tokens, dtype) as borrowed, AccumulatesInFloat32():
        data = core.prepare.training_data(clip, inputs, mean, torch.zeros_like(mean))
        start = {key: core.host.word_rows(clip, key, ["and"]) for key in core.host.encoder_keys(clip)}
        learner = core.loop.Learner(borrowed, data, inputs, start)
        if not scaled:
            learner.scale = core.step.LossScale(enabled=False)
        (batch,) = core.step.draw_update(data, inputs, learner.cdf, [], learner.generator)
        core.step.accumulate_gradient(borrowed, data, inputs, learner.relation, [batch], scale=learner.scale.value)
    return {key: rows.grad for key, rows in learner.relation.items()}


def error(found, exact):
    return {key: float((found[key] - exact[key]).norm() / exact[key].norm()) for key in exact}


class Attention(torch.overrides.TorchFunctionMode):
    """The number types in which attention is computed."""

    def __init__(self):
        super().__init__()
        self.types = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is F.scaled_dot_product_attention:
            self.types.add(args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "expected"), [("SD 1.x", torch.float16), ("SD 2.x", torch.float32)])
def test_attention_is_computed_in_float32_where_the_host_does(core, embeddings, name, expected):
    """Not with torch's attention as the host's own, which computes as it is given."""
    given = random_models.build(name, embeddings, dtype=torch.float16)
    with core.host.borrowed_model(
        given.model, given.clip, core.host.caption_tokens(given.clip, ["a {} b"], 1)
    ) as model:
        features = model.encode([0], relation_of(core, given.clip))
        latents = torch.zeros(1, 4, 8, 8)
        with Attention() as attention:
            model.prediction_error(latents, latents, torch.tensor([500]), features)
    assert attention.types == {expected}


@pytest.mark.parametrize("name", ["SD 1.x", "SD 2.x", "SDXL"])
def test_the_gradient_in_half_precision_is_that_of_full(core, drawn, embeddings, name):
    given = random_models.build(name, embeddings, dtype=torch.float16)
    with torch.inference_mode():
        for weight_name, weight in given.model.model.diffusion_model.named_parameters():
            if weight_name.endswith("attn2.to_v.weight"):  # a word changes a real model's prediction little
                weight.mul_(0.01)
    exact = gradient(core, given, drawn, torch.float32)
    assert max(error(gradient(core, given, drawn, None), exact).values()) < 0.01
    assert max(error(gradient(core, given, drawn, torch.bfloat16), exact).values()) < 0.05
    if name == "SD 1.x":  # what the scaling of the loss is for
        assert max(error(gradient(core, given, drawn, None, scaled=False), exact).values()) > 0.02
