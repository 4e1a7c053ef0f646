"""The trainer on a model that is simple enough to know the answer: what the published setting gets wrong, and more."""

import contextlib
import dataclasses

import pytest
import torch

from reversion_core.method.focal import Focal
from reversion_core.method.steering import Steering
from reversion_core.training import loop as trainer
from reversion_core.training.settings import PRESETS

WIDTH, CAPTIONS = 8, 2


class Plain:
    """Features are R (times -1 for swapped captions); the prediction is their mean, scaled by `answer`."""

    timesteps = 1000
    recording = staticmethod(contextlib.nullcontext)

    def __init__(self, answer=1.0):
        self.answer = answer

    @property
    def vocabulary_norms(self):
        return {"clip_l": torch.tensor(0.4)}

    def encode(self, captions, relation):
        signs = torch.tensor([1.0 if c < CAPTIONS else -1.0 for c in captions])
        return {"cross_attn": signs[:, None] * relation["clip_l"].mean(0)}

    def predict(self, x0, noise, timesteps, features):
        said = features["cross_attn"].mean(-1)[:, None, None, None]
        return noise + 1 + self.answer * said, noise


def problem(**given):
    generator = torch.Generator().manual_seed(0)
    rows = {"clip_l": torch.randn(6, WIDTH, generator=generator)}
    shape = (3, 1, 2, 2)
    return trainer.Problem(
        torch.zeros(shape), torch.zeros(shape), ((0,), (1,), (0,)), ((0,), (1,)), rows, rows, **given
    )


def learner(settings, model=None):
    start = {"clip_l": torch.full((1, WIDTH), 0.4 / WIDTH**0.5)}
    return trainer.Learner(model or Plain(), problem(), settings, Steering(weight=0.0), Focal(), start)


def learned(settings, model=None):
    """R after all the settings' updates."""
    made = learner(settings, model)
    while made.step < settings.steps:
        made.update()
    return made.vectors["clip_l"]


def test_published_weight_decay_pulls_r_to_zero_and_the_other_presets_do_not():
    unmoved = Plain(answer=0.0)
    paper = learned(dataclasses.replace(PRESETS["paper"], steps=50), unmoved)
    assert float(paper.norm()) == pytest.approx(0.4 * (1 - 2e-3 * 1e-2) ** 50, rel=1e-5)
    for name in ("balanced", "fast"):
        assert float(learned(dataclasses.replace(PRESETS[name], steps=50), unmoved).norm()) == pytest.approx(0.4)


def test_norm_control_keeps_r_at_the_norm_of_a_word():
    free = learned(dataclasses.replace(PRESETS["paper"], steps=100, learning_rate=0.05))
    kept = learned(dataclasses.replace(PRESETS["paper"], steps=100, learning_rate=0.05, norm="vocabulary"))
    assert float(free.norm()) > 0.6 and float(kept.norm()) == pytest.approx(0.4)


def test_swapped_negatives_push_r_to_what_tells_the_order_apart():
    """A swapped caption says -R here, which explains the pictures better as long as R is positive."""
    settings = dataclasses.replace(PRESETS["paper"], steps=1, norm="free", denoise_weight=1e-6)
    generator = torch.Generator().manual_seed(0)
    relation = {"clip_l": torch.nn.Parameter(torch.full((1, WIDTH), 0.1))}
    for weight, moved in ((0.0, False), (1.0, True)):
        given = dataclasses.replace(settings, swap_weight=weight)
        swapping = problem(swapped=(CAPTIONS, CAPTIONS + 1))
        cdf = trainer.focal_sampling.cumulative(1000, Focal())
        batches = trainer.draw_update(swapping, given, Steering(weight=0.0), cdf, [], generator)
        relation["clip_l"].grad = None
        trainer.accumulate_gradient(Plain(), swapping, given, Steering(weight=0.0), relation, batches)
        gradient = float(relation["clip_l"].grad.mean())
        assert (gradient > 1e-3) is moved


def test_a_restored_learner_goes_on_bit_for_bit():
    settings = dataclasses.replace(PRESETS["balanced"], steps=30, norm="free", learning_rate=0.02)
    unbroken, stopped, goes_on = (learner(settings) for _ in range(3))
    for _ in range(30):
        unbroken.update()
    for _ in range(11):
        stopped.update()
    goes_on.restore(stopped.state())
    assert goes_on.step == 11 and goes_on.history == stopped.history
    while goes_on.step < 30:
        goes_on.update()
    assert torch.equal(goes_on.vectors["clip_l"], unbroken.vectors["clip_l"])
    assert goes_on.history == unbroken.history
