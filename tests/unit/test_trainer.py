"""The trainer on a model that is simple enough to know the answer: what the published setting gets wrong, and more."""

import contextlib
import dataclasses
import math

import pytest
import torch

from reversion_core.method import focal as focal_law
from reversion_core.method import prior as priors
from reversion_core.method.focal import Focal
from reversion_core.method.steering import Steering
from reversion_core.report.verdict import Verdict
from reversion_core.training import losses, optimizers, verdict, views
from reversion_core.training.inputs import TrainingData, TrainingInputs
from reversion_core.training.loop import Learner, columns
from reversion_core.training.settings import PRESETS
from reversion_core.training.step import NotFiniteError, accumulate_gradient, draw_update

WIDTH, CAPTIONS = 8, 2
NO_STEERING = Steering(weight=0.0)


class Plain:
    """Features are R (times -1 for swapped captions); the error is 1 plus their mean, scaled by `answer`."""

    timesteps, takes_turns, encodes_together = 1000, False, True
    recording = staticmethod(contextlib.nullcontext)

    def __init__(self, answer=1.0, computes_in_fp16=False):
        self.answer, self.computes_in_fp16 = answer, computes_in_fp16

    def encode(self, captions, relation):
        signs = [1.0 if c < CAPTIONS else -1.0 for c in captions]
        return [{"cross_attn": sign * relation["clip_l"].mean(0, keepdim=True)} for sign in signs]

    def prediction_error(self, x0, noise, timesteps, features):
        said = torch.cat([of_one["cross_attn"] for of_one in features]).mean(-1)
        return torch.ones_like(x0) + self.answer * said[:, None, None, None]


class OneByOne(Plain):
    """Its text encoders are large: captions go through them one at a time."""

    encodes_together = False

    def __init__(self):
        super().__init__()
        self.encoded = []

    def encode(self, captions, relation):
        self.encoded.append(tuple(captions))
        return super().encode(captions, relation)


@dataclasses.dataclass(frozen=True)
class Pictures:
    captions: tuple = (("red {} blue",), ("green {} white",), ("red {} blue",))


def training_data(**given):
    generator = torch.Generator().manual_seed(0)
    rows = {"clip_l": torch.randn(6, WIDTH, generator=generator)}
    zeros = torch.zeros(3, 1, 2, 2)
    return TrainingData(zeros, zeros, ((0,), (1,), (0,)), ((0,), (1,)), rows, rows, {"clip_l": 0.4}, **given)


def learner(settings, model=None, steering=NO_STEERING, focal=None, start=None):
    start = torch.full((1, WIDTH), 0.4 / WIDTH**0.5) if start is None else start
    inputs = TrainingInputs(Pictures(), settings, steering, focal or Focal())
    return Learner(model or Plain(), training_data(), inputs, {"clip_l": start})


def finish(made):
    while made.step < made.inputs.settings.steps:
        made.update()
    return made


def learned(settings, model=None, **given):
    """R after all the settings' updates."""
    return finish(learner(settings, model, **given)).vectors["clip_l"]


def test_published_weight_decay_pulls_r_to_zero_and_the_other_presets_do_not():
    unmoved = Plain(answer=0.0)
    paper = learned(dataclasses.replace(PRESETS["paper"], steps=50), unmoved)
    assert float(paper.norm()) == pytest.approx(0.4 * (1 - 2e-3 * 1e-2) ** 50, rel=1e-5)
    for name in ("balanced", "fast"):
        held = dataclasses.replace(PRESETS[name], steps=50, prior="pull", norm="free")
        assert float(learned(held, unmoved).norm()) == pytest.approx(0.4)


def test_weight_decay_is_the_same_in_every_text_encoder():
    """AdamW decays by the rate times its share, and the rate is in units of each encoder's numbers."""
    plain, of_llm = (learner(dataclasses.replace(PRESETS["paper"], steps=50), Plain(answer=0.0)) for _ in range(2))
    of_llm.data = dataclasses.replace(of_llm.data, rates={"clip_l": 35.0})
    torch.testing.assert_close(finish(plain).vectors, finish(of_llm).vectors)


def test_norm_control_keeps_r_at_the_norm_of_a_word():
    free = learned(dataclasses.replace(PRESETS["paper"], steps=100, learning_rate=0.05))
    kept = learned(dataclasses.replace(PRESETS["paper"], steps=100, learning_rate=0.05, norm="vocabulary"))
    assert float(free.norm()) > 0.6 and float(kept.norm()) == pytest.approx(0.4)


def test_span_keeps_r_a_combination_of_the_basis():
    rows = training_data().basis_rows["clip_l"]
    outside = torch.linalg.svd(rows)[2][len(rows) :]  # directions that no basis word has a part of
    settings = dataclasses.replace(PRESETS["balanced"], steps=20)
    pulled = learned(settings, steering=Steering(weight=0.0, prior="pull"))
    span = learned(settings, steering=Steering(weight=0.0, prior="span"))
    assert float((pulled @ outside.T).abs().max()) > 0.01
    assert float((span @ outside.T).abs().max()) < 1e-6 and float(span.norm()) == pytest.approx(0.4)


def test_tangent_optimizer_turns_r_and_keeps_its_norm():
    settings = dataclasses.replace(PRESETS["paper"], steps=40, optimizer="tangent", learning_rate=0.02)
    made = finish(learner(settings, start=0.4 * torch.eye(WIDTH)[:1]))
    assert float(made.vectors["clip_l"].norm()) == pytest.approx(0.4, rel=1e-5)
    assert made.history[-1]["denoise"] < 0.8 * made.history[0]["denoise"]


def test_tangent_optimizer_keeps_the_norm_where_the_prior_takes_a_part_away():
    settings = dataclasses.replace(PRESETS["paper"], steps=40, optimizer="tangent", learning_rate=0.02, prior="span")
    made = learner(settings, start=0.4 * torch.eye(WIDTH)[:1])
    assert float(finish(made).vectors["clip_l"].norm()) == pytest.approx(0.4, rel=1e-5)


def test_tangent_optimizer_turns_by_the_same_angle_in_every_text_encoder():
    """Its steps are relative: neither the width of a token nor the size of its numbers counts."""
    for width, size in ((768, 0.4), (4096, 40.0), (1024, 1.0)):
        turned = torch.nn.Parameter(size * torch.eye(width)[:1])
        turned.grad = torch.eye(width)[1:2]
        optimizers.OPTIMIZERS["tangent"]([turned], lr=2e-3).step()
        angle = torch.atan2(-turned[0, 1], turned[0, 0]).detach()
        assert float(angle) == pytest.approx(math.atan(2e-3 / 0.4 * 768**0.5), rel=1e-4), width
    settings = dataclasses.replace(PRESETS["paper"], steps=1, optimizer="tangent")
    plain, of_llm = (learner(settings, start=0.4 * torch.eye(WIDTH)[:1]) for _ in range(2))
    of_llm.data = dataclasses.replace(of_llm.data, rates={"clip_l": 35.0})
    assert torch.equal(finish(plain).vectors["clip_l"], finish(of_llm).vectors["clip_l"])


def test_swapped_negatives_push_r_to_what_tells_the_order_apart():
    """A swapped caption says -R here, which explains the pictures better as long as R is positive."""
    settings = dataclasses.replace(PRESETS["paper"], steps=1, denoise_weight=1e-6)
    data = training_data(swapped=(CAPTIONS, CAPTIONS + 1))
    for weight, moved in ((0.0, False), (1.0, True)):
        inputs = TrainingInputs(Pictures(), settings, Steering(weight=0.0, swap=weight), Focal())
        relation = {"clip_l": torch.nn.Parameter(torch.full((1, WIDTH), 0.1))}
        generator = torch.Generator().manual_seed(0)
        batches = draw_update(data, inputs, focal_law.cumulative(1000, Focal()), [], generator)
        found = accumulate_gradient(Plain(), data, inputs, relation, batches)
        assert ("swap" in found) is moved
        assert (float(relation["clip_l"].grad.mean()) > 1e-3) is moved


def test_of_large_text_encoders_one_caption_at_a_time_is_kept_and_the_gradient_is_the_same():
    inputs = TrainingInputs(Pictures(), PRESETS["paper"], Steering(weight=1.0), Focal())
    batches = draw_update(
        training_data(), inputs, focal_law.cumulative(1000, Focal()), [], torch.Generator().manual_seed(0)
    )
    found, model = [], OneByOne()
    for of_kind in (Plain(), model):
        relation = {"clip_l": torch.nn.Parameter(torch.full((1, WIDTH), 0.1))}
        means = accumulate_gradient(of_kind, training_data(), inputs, relation, batches)
        found.append((relation["clip_l"].grad, means))
    torch.testing.assert_close(found[1][0], found[0][0])
    assert found[0][1] == found[1][1] and model.encoded == [(0,), (1,), (0,), (1,)]


def test_a_restored_learner_goes_on_bit_for_bit():
    settings = dataclasses.replace(PRESETS["balanced"], steps=30, norm="free", learning_rate=0.02)
    unbroken, stopped, goes_on = (learner(settings) for _ in range(3))
    finish(unbroken)
    for _ in range(11):
        stopped.update()
    goes_on.restore(stopped.state())
    assert goes_on.step == 11 and goes_on.history == stopped.history
    finish(goes_on)
    assert torch.equal(goes_on.vectors["clip_l"], unbroken.vectors["clip_l"])
    assert goes_on.history == unbroken.history


def _without(name):
    return lambda state: {key: value for key, value in state.items() if key != name}


def _changed(name, change):
    return lambda state: {**state, name: change(state[name])}


@pytest.mark.parametrize(
    "damage",
    [
        _without("generator"),
        _without("history"),
        _without("vectors.clip_l"),
        _without("optimizer.clip_l.exp_avg"),
        _changed("vectors.clip_l", lambda v: v * float("nan")),
        _changed("vectors.clip_l", lambda v: v[:, :-1]),
        _changed("optimizer.clip_l.exp_avg", lambda v: v.repeat(3, 1)),
        _changed("epoch", lambda v: torch.tensor([99])),
        _changed("pictures", lambda v: torch.tensor([0, 1, 99])),
        _changed("generator", lambda v: v[:10]),
        _changed("history", lambda v: v[:, :2]),
        _changed("samples_per_pass", lambda v: torch.tensor(0)),
    ],
)
def test_a_state_that_is_valid_but_wrong_is_refused_as_a_whole(damage):
    settings = dataclasses.replace(PRESETS["balanced"], steps=5)
    stopped, fresh = learner(settings), learner(settings)
    stopped.update()
    with pytest.raises(ValueError):
        fresh.restore(damage(stopped.state()))
    assert fresh.step == 0 and torch.equal(fresh.vectors["clip_l"], learner(settings).vectors["clip_l"])


class Overflowing(Plain):
    """Gradients above 65504 become infinite, as in float16."""

    def prediction_error(self, x0, noise, timesteps, features):
        features = [{"cross_attn": _Half.apply(of_one["cross_attn"])} for of_one in features]
        return super().prediction_error(x0, noise, timesteps, features)


class _Half(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.half().float()


def test_an_update_that_overflows_in_float16_is_repeated_with_a_smaller_scale():
    settings = dataclasses.replace(PRESETS["paper"], steps=3)
    exact = finish(learner(settings, Plain(answer=100.0)))
    scaled = finish(learner(settings, Overflowing(answer=100.0, computes_in_fp16=True)))
    assert scaled.scale.value < scaled.scale.START and scaled.step == 3
    torch.testing.assert_close(scaled.vectors["clip_l"], exact.vectors["clip_l"], rtol=1e-3, atol=1e-6)


def test_the_scale_is_part_of_the_state():
    settings = dataclasses.replace(PRESETS["paper"], steps=3)
    stopped, goes_on = (learner(settings, Overflowing(answer=100.0, computes_in_fp16=True)) for _ in range(2))
    stopped.update()
    goes_on.restore(stopped.state())
    assert (goes_on.scale.value, goes_on.scale.updates_since_overflow) == (stopped.scale.value, 1)


def test_a_loss_that_is_no_number_ends_the_run_at_once():
    settings = dataclasses.replace(PRESETS["paper"], steps=3)
    made = learner(settings, Plain(answer=float("nan"), computes_in_fp16=True))
    with pytest.raises(NotFiniteError):
        made.update()
    assert made.step == 0 and made.scale.value == made.scale.START


def test_a_new_loss_law_optimizer_prior_or_norm_is_one_row(monkeypatch):
    """What the update computes, its record, its draws and what holds R read the tables."""
    small = losses.Loss(
        "size of R", lambda inputs: 0.5, from_vectors=lambda relation, *_: relation["clip_l"].square().sum()
    )
    monkeypatch.setitem(losses.LOSSES, "size", small)
    monkeypatch.setitem(focal_law.LAWS, "low noise", lambda t, alpha: (t < 0.1).double())
    monkeypatch.setitem(optimizers.OPTIMIZERS, "sgd", torch.optim.SGD)
    axis = priors.Prior(steers=False, hold=lambda vectors, directions: vectors * (torch.arange(WIDTH) == 0))
    monkeypatch.setitem(priors.PRIORS, "axis", axis)
    double = priors.Norm(hold=lambda vectors, norm: priors.rescale(vectors, 2 * norm))
    monkeypatch.setitem(priors.NORMS, "double", double)
    settings = dataclasses.replace(PRESETS["paper"], steps=40, optimizer="sgd", learning_rate=0.1)
    made = learner(settings, Plain(answer=0.0), Steering(prior="axis"), Focal(law="low noise"))
    batches = draw_update(made.data, made.inputs, made.cdf, [], torch.Generator().manual_seed(0))
    assert max(int(batch.timesteps.max()) for batch in batches) < 100
    finish(made)
    assert columns(made.inputs) == ("loss", "denoise", "size", "norm", "similarity") == tuple(made.history[0])
    assert made.history[-1]["size"] < 0.1 * made.history[0]["size"]
    assert made.vectors["clip_l"][0, 0] > 0 and not made.vectors["clip_l"][0, 1:].any()
    assert float(learned(dataclasses.replace(settings, steps=1, norm="double")).norm()) == pytest.approx(0.8)


class Knows(Plain):
    """As `Plain`, with an error that is larger by the first number of a picture, and by its noise."""

    def prediction_error(self, x0, noise, timesteps, features):
        return super().prediction_error(x0, noise, timesteps, features) + x0[..., :1, :1] + noise


def test_views_that_the_model_explains_much_worse_than_the_picture_are_left_out():
    given = training_data()
    mean = torch.zeros(6, 1, 2, 2)
    mean[[1, 4]], mean[5] = 0.05, 9.0  # a little worse, far worse
    mean[3] = math.nan  # whatever becomes of it, the picture itself stays
    data = dataclasses.replace(given, mean=mean, std=torch.zeros_like(mean), captions=((0,),) * 3 + ((1,),) * 3)
    made = learner(PRESETS["paper"])

    def known(count):
        return views.known_views(Knows(), data, count, made.cdf, made.vectors, 0)

    assert known(1) == [0, 1, 2, 3, 4, 5] and known(3) == [0, 1, 2, 3]
    mean[3] = 0.0
    assert known(3) == [0, 1, 2, 3, 4] == known(3)
    narrowed = data.only(known(3))
    assert torch.equal(narrowed.mean, mean[:5]) and narrowed.captions == ((0,),) * 3 + ((1,),) * 2


def test_a_restored_learner_trains_on_the_pictures_that_the_state_did():
    """Where a model knows other views by now, such as of latents that were encoded in tiles then."""
    settings = dataclasses.replace(PRESETS["balanced"], steps=6, norm="free", batch_size=1, accumulation=1)
    unbroken, stopped, goes_on = (learner(settings, Knows()) for _ in range(3))
    for made, pictures in ((unbroken, [0, 2]), (stopped, [0, 2]), (goes_on, [0, 1, 2])):
        made.train_on(pictures)
    stopped.update()
    goes_on.restore(stopped.state())
    assert goes_on.pictures == [0, 2] and torch.equal(goes_on.data.mean, unbroken.data.mean)
    assert torch.equal(finish(goes_on).vectors["clip_l"], finish(unbroken).vectors["clip_l"])
    older = {name: value for name, value in stopped.state().items() if name != "pictures"}
    goes_on.restore(older)
    assert goes_on.pictures == [0, 2]


def updates(count, **settings):
    """The exemplars, captions and timesteps of some updates on three exemplars, whose first has two captions."""
    data = dataclasses.replace(training_data(), captions=((0, 2), (1,), (0,)))
    settings = dataclasses.replace(PRESETS["paper"], batch_size=2, accumulation=3, **settings)
    inputs = TrainingInputs(Pictures(), settings, NO_STEERING, Focal())
    generator, remaining, cdf = torch.Generator().manual_seed(0), [], focal_law.cumulative(1000, Focal(alpha=0.0))
    for _ in range(count):
        batches = draw_update(data, inputs, cdf, remaining, generator)
        assert [len(batch.captions) for batch in batches] == [2, 2, 2]
        yield (
            torch.cat([batch.exemplars for batch in batches]).tolist(),
            [caption for batch in batches for caption in batch.captions],
            torch.cat([batch.timesteps for batch in batches]),
        )


def test_every_exemplar_comes_once_before_any_comes_again():
    orders = [exemplars for exemplars, *_ in updates(20)]
    for order in orders:
        assert sorted(order[:3]) == sorted(order[3:]) == [0, 1, 2]
    assert len({tuple(order) for order in orders}) > 5


def test_an_exemplar_has_its_own_captions_in_turn_by_chance():
    drawn = [pair for exemplars, captions, _ in updates(20) for pair in zip(exemplars, captions, strict=True)]
    assert set(drawn) == {(0, 0), (0, 2), (1, 1), (2, 0)}
    assert 8 < drawn.count((0, 0)) < 32


def test_stratified_timesteps_are_spread_over_a_whole_update():
    lows, rounding = torch.arange(6) * 1000 / 6, 1

    def spread(t):
        return bool(((t.sort().values - lows).clamp(-rounding, 1000 / 6 + rounding) == t.sort().values - lows).all())

    assert all(spread(t) for *_, t in updates(20, stratified=True))
    assert not any(spread(t) for *_, t in updates(20))


def test_the_verdict_compares_r_with_words_on_the_same_draws():
    settings = dataclasses.replace(PRESETS["paper"], steps=100, batch_size=4, accumulation=1, learning_rate=0.02)
    made = learner(settings, steering=Steering(weight=0.0, basis=("up", "on", "in"), positives=1))
    basis = torch.tensor([[0.2], [0.1], [-0.1]]).expand(3, WIDTH)
    entities = torch.tensor([[-1.0], [1.0]]).expand(2, WIDTH)
    made.data = dataclasses.replace(
        made.data,
        basis_rows={"clip_l": basis},
        negative_rows={"clip_l": entities},
        negative_words=("red", "blue"),
    )
    start = made.vectors
    untrained = verdict.judge(made, start)
    assert untrained.start == 0 and untrained.best_word == "in" and next(iter(untrained.entities)) == "blue"
    assert "more steps" in untrained.advice and untrained.noise["start"] == 0
    finish(made)
    trained = verdict.judge(made, start)
    # The error is (1 + mean of R)^2: the start's is exactly known.
    error = float(1 + made.vectors["clip_l"].mean()) ** 2
    assert trained.start == pytest.approx(1 - error / (1 + 0.4 / WIDTH**0.5) ** 2, rel=1e-4)
    assert trained.best == pytest.approx(1 - error / 0.9**2, rel=1e-4)
    # The rows of the basis are all one direction, and the mean of R is what lies in it.
    assert trained.outside == pytest.approx(0, abs=1e-4)
    assert trained.start > trained.best and next(iter(trained.entities)) == "red" and trained.nearest_word == "in"
    assert "better than 'in', the nearest preposition" in trained.details
    # Errors that do not depend on the draw differ by no chance.
    assert trained.noise == pytest.approx(dict.fromkeys(("start", "nearest", "best", "outside"), 0), abs=1e-5)
    mute = torch.eye(WIDTH)[:3] - torch.eye(WIDTH)[3:6]  # without a mean, so that the part of R among them says nothing
    made.data = dataclasses.replace(made.data, basis_rows={"clip_l": mute})
    assert verdict.judge(made, start).outside == pytest.approx(1 - error, rel=1e-4)


def test_what_the_prior_span_learned_has_nothing_outside_of_it():
    settings = dataclasses.replace(PRESETS["balanced"], steps=100, batch_size=4, accumulation=1, learning_rate=0.02)
    made = learner(settings, steering=Steering(weight=0.0, basis=tuple("abcdef"), positives=1))
    made.data = dataclasses.replace(made.data, negative_words=("red", "blue"))
    word = {"clip_l": torch.full((1, WIDTH), 0.4 / WIDTH**0.5)}
    finish(made)
    found = verdict.judge(made, word)
    assert found.outside == pytest.approx(0, abs=1e-5) and "look" not in found.advice
    assert "its look was not tested" in found.details
    # Beside the initial word itself, not beside where the prior puts it.
    error = float(1 + made.vectors["clip_l"].mean()) ** 2
    assert found.start == pytest.approx(1 - error / (1 + 0.4 / WIDTH**0.5) ** 2, rel=1e-4)


def test_a_gain_is_a_geometric_mean_with_two_standard_errors():
    gain, noise = verdict.gain(torch.tensor([1.0, 4.0, 2.0, 2.0]), torch.tensor([2.0, 2.0, 4.0, 4.0]))
    assert gain == pytest.approx(1 - 0.5**0.5)  # ratios 1/2, 2, 1/2 and 1/2
    assert noise == pytest.approx(2 * 0.5**0.5 * math.log(2) / 2)  # the logarithms' standard deviation is log 2


def said(start=0.3, nearest=0.0, best=0.0, outside=0.0, noise=0.0, entities=None):
    of_all = dict.fromkeys(("start", "nearest", "best", "outside"), noise)
    return Verdict(start, nearest, best, outside, "on", "upon", entities or {}, "and", of_all)


def test_a_verdict_says_worse_where_it_is_worse():
    found = said(start=-0.146, nearest=0.02, best=0.001, outside=-0.3, noise=0.01)
    assert "worse than at its start" in found.advice
    assert "14.6% worse than 'and'" in str(found) and "no better than 'upon', the best plain word" in str(found)
    assert "2.0% better than 'on'" in found.details and "gains over 'and', 0% is nothing" in found.details
    assert "captions" not in found.details
    # What chance may make of it is told as nothing, however large it is.
    assert "more steps" in said(start=-0.146, noise=0.15).advice
    assert "no better than 'and'" in str(said(start=-0.146, noise=0.15))


def test_what_no_preposition_says_is_told_as_the_look():
    assert said(start=0.3, outside=0.02).advice == "fine"
    assert "choose prior span" in said(start=0.3, outside=0.2).advice
    # As well where errors, and what there is to gain, are a hundred times smaller.
    assert said(start=0.003, outside=0.0002, noise=1e-4).advice == "fine"
    assert "choose prior span" in said(start=0.003, outside=0.002, noise=1e-4).advice
    assert "0.3% better than 'and'" in str(said(start=0.003, outside=0.002, noise=1e-4))
    assert said(start=0.003, outside=0.002, noise=0.0025).advice == "fine"


def test_a_relation_that_no_word_says_and_r_hardly_either_is_told():
    """As of relations that the miniature's captions never named: all words are far behind the start word."""
    assert "no word says this" in said(start=0.03, best=0.4, outside=0.3).advice
    assert said(start=0.3, best=0.4).advice == "fine"
    assert said(start=0.03, best=0.1, noise=0.02).advice != said(start=0.15, best=0.1, noise=0.11).advice == "fine"


def test_a_word_that_fits_better_is_told():
    found = said(nearest=-0.1, best=-0.05, entities={"red": 0.5, "star": 0.25})
    assert "try the plain word 'upon'" in found.advice
    assert said(best=-0.05, noise=0.06).advice == "fine"
    assert "most like 'red' (cosine 0.50), 'star' (cosine 0.25)." in found.details


def test_a_short_training_has_no_verdict():
    assert verdict.judge(learner(dataclasses.replace(PRESETS["paper"], steps=2)), {}) is None
