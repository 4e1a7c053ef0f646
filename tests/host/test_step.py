"""One training step against the literal reference, through the host's own networks."""

import pytest
import torch
from training import short_training, with_prediction

from lab.harness.reference import Reference

CASES = (("SD 1.x", "eps"), ("SD 1.x", "v"), ("SD 2.x", "eps"), ("SD 2.x", "v"), ("SDXL", "eps"))


@pytest.mark.parametrize(("family", "prediction"), CASES)
def test_one_step_equals_the_reference(core, of_family, drawn, family, prediction):
    # The miniature is the case with several micro-batches; the others are too wide for more than one.
    inputs, given = short_training(core, drawn, accumulation=2 if family == "SD 1.x" else 1), of_family(family)
    clip, model = given.clip, with_prediction(given.model, prediction)
    tokens = core.prepare.check(model, clip, given.vae, inputs, "test").tokens
    with torch.inference_mode():
        mean, std, _ = core.host.scaled_posterior(model, given.vae, torch.from_numpy(drawn.fitted(64)))
    model, clip = core.host.load_for_training(model, clip, "test")
    with core.host.borrowed_model(model, clip, tokens) as borrowed:
        data = core.prepare.training_data(clip, inputs, mean, std)
        start = {key: core.host.word_rows(clip, key, ["and"]) * 1.1 for key in core.host.encoder_keys(clip)}
        relation = {key: torch.nn.Parameter(row.clone()) for key, row in start.items()}
        cdf = core.focal.cumulative(1000, inputs.focal)
        generator = torch.Generator().manual_seed(3)
        batches = core.step.draw_update(data, inputs, cdf, [], generator)
        found = core.step.accumulate_gradient(borrowed, data, inputs, relation, batches)

    captions = inputs.captions
    reference = Reference(clip, model, {key: row[0].clone() for key, row in start.items()})
    losses, steers = [], []
    for draws in batches:
        # The drawn captions are "red circle {} blue square": every word of every sample's caption counts.
        negatives = [word for c in draws.captions for word in captions[c].split() if word != "{}"]
        x0 = mean[draws.exemplars].clone() + std[draws.exemplars].clone() * draws.posterior_noise
        texts = [captions[c] for c in draws.captions]
        losses.append(reference.denoising_loss(x0, draws.noise, draws.timesteps, texts, prediction))
        positives = [inputs.steering.basis[p] for p in draws.positives.flatten().tolist()]
        steers.append(reference.steering_loss(positives, negatives, 0.07))
    expected_denoise, expected_steer = torch.cat(losses).mean(), torch.stack(steers).mean()
    expected = reference.gradient(expected_denoise + expected_steer)

    assert float(found["denoise"]) == pytest.approx(float(expected_denoise), rel=1e-5)
    assert float(found["steer"]) == pytest.approx(float(expected_steer), rel=1e-5)
    assert relation.keys() == expected.keys()
    for key, gradient in expected.items():
        assert float((relation[key].grad[0] - gradient).norm() / gradient.norm()) < 1e-5


@pytest.mark.parametrize("family", ["SD 1.x", "SD 2.x", "SDXL"])
def test_gradient_of_the_relation_agrees_with_finite_differences(core, of_family, drawn, family):
    inputs, given = short_training(core, drawn, accumulation=1), of_family(family)
    tokens = core.host.caption_tokens(given.clip, inputs.captions, 1)
    model, clip = core.host.load_for_training(given.model, given.clip, "test")
    generator = torch.Generator().manual_seed(0)
    with core.host.borrowed_model(model, clip, tokens) as borrowed:
        data = core.prepare.training_data(
            clip, inputs, torch.randn(8, 4, 8, 8, generator=generator), torch.zeros(8, 4, 8, 8)
        )
        cdf = core.focal.cumulative(1000, inputs.focal)
        batches = core.step.draw_update(data, inputs, cdf, [], generator)
        start = {key: core.host.word_rows(clip, key, ["and"]) for key in core.host.encoder_keys(clip)}

        def loss_and_gradient(vectors):
            relation = {key: torch.nn.Parameter(vector.clone()) for key, vector in vectors.items()}
            losses = core.step.accumulate_gradient(borrowed, data, inputs, relation, batches)
            return float(sum(loss.double() for loss in losses.values())), {key: v.grad for key, v in relation.items()}

        _, gradient = loss_and_gradient(start)
        # Each text encoder of the family by itself.
        for key, vector in start.items():
            direction = torch.nn.functional.normalize(torch.randn(vector.shape, generator=generator))
            step = 1e-2 * float(vector.norm())
            above, below = (loss_and_gradient(start | {key: vector + sign * step * direction})[0] for sign in (1, -1))
            slope = (above - below) / (2 * step)
            assert float((gradient[key] * direction).sum()) == pytest.approx(slope, rel=0.02)


def test_several_vectors_all_get_a_gradient(core, loaded, drawn):
    inputs = short_training(core, drawn, accumulation=1, vectors=3, prior="none")
    tokens = core.host.caption_tokens(loaded.clip, inputs.captions, 3)
    model, clip = core.host.load_for_training(loaded.model, loaded.clip, "test")
    with core.host.borrowed_model(model, clip, tokens) as borrowed:
        data = core.prepare.training_data(clip, inputs, torch.randn(8, 4, 8, 8), torch.zeros(8, 4, 8, 8))
        initial = {"clip_l": core.host.word_rows(clip, "clip_l", ["and"] * 3)}
        learner = core.loop.Learner(borrowed, data, inputs, initial)
        learner.update()
    moved = (learner.vectors["clip_l"] - initial["clip_l"]).norm(dim=1)
    assert learner.vectors["clip_l"].shape == (3, 768) and (moved > 0).all()
    assert learner.vectors["clip_l"].dtype == torch.float32
