"""What training may not do to the host: change weights, classes, flags or random numbers."""

import pytest
import torch
from training import Stop, learn, stop_at


def kept_in(core, folder):
    (file,) = folder.rglob("relation.safetensors")
    return core.relation.load(file)


def test_training_leaves_everything_as_it_was(core, loaded, drawn, tmp_path, watched):
    learned = learn(core, loaded, drawn, tmp_path)
    vectors = learned.relation.vectors["clip_l"]
    assert len(learned.history) == 2 and vectors.shape == (1, 768) and not vectors.is_inference()


def test_so_does_training_with_previews(core, loaded, drawn, tmp_path, watched):
    keep = {"preview_every": 2, "prompt": "red circle <R> blue square"}
    learned = learn(core, loaded, drawn, tmp_path, keep=keep, steps=3, learning_rate=0.05)
    first, last = learned.previews
    assert first.shape == (64, 64, 3) and (first != last).any()
    # Drawing on the way changes nothing of what is learned.
    plain = learn(core, loaded, drawn, tmp_path / "plain", steps=3, learning_rate=0.05)
    assert torch.equal(plain.relation.vectors["clip_l"], learned.relation.vectors["clip_l"])


def test_so_does_training_in_fp32(core, loaded, drawn, tmp_path, watched):
    learn(core, loaded, drawn, tmp_path, precision="fp32")


def test_so_does_training_in_bf16_which_computes_in_it_and_learns_nearly_the_same(
    core, loaded, drawn, tmp_path, watched
):
    networks = {
        "UNet": loaded.model.model.diffusion_model.out,
        "text encoder": loaded.clip.cond_stage_model.clip_l.transformer.text_model.encoder.layers[0],
    }
    computed = {name: set() for name in networks}
    hooks = [
        part.register_forward_hook(lambda _, args, output, name=name: computed[name].add(output.dtype))
        for name, part in networks.items()
    ]
    short = {"steps": 2, "batch_size": 1}
    quick = learn(core, loaded, drawn, tmp_path / "bf16", **short, precision="bf16").relation.vectors["clip_l"]
    for hook in hooks:
        hook.remove()
    assert computed == {name: {torch.bfloat16} for name in networks}
    exact = learn(core, loaded, drawn, tmp_path / "fp32", **short, precision="fp32").relation.vectors["clip_l"]
    start = core.host.word_rows(loaded.clip, "clip_l", ["and"])
    assert quick.dtype == torch.float32 and not torch.equal(quick, exact)
    assert torch.cosine_similarity(quick - start, exact - start) > 0.9


def test_so_does_a_stop_in_the_middle_and_what_was_learned_is_kept(core, loaded, drawn, tmp_path, watched):
    with pytest.raises(Stop):
        learn(core, loaded, drawn, tmp_path, stop_at(1))
    kept = kept_in(core, tmp_path)
    assert kept.metadata["reversion.steps_done"] == "1"
    start = core.host.word_rows(loaded.clip, "clip_l", ["and"])
    assert not torch.equal(kept.vectors["clip_l"], start)


def test_so_does_an_error_in_the_middle(core, loaded, drawn, tmp_path, watched, monkeypatch):
    original, calls = core.host.HostModel.prediction_error, []

    def fails_in_the_second_step(self, x0, *arguments):
        calls.extend([1] if len(x0) == 2 else [])  # not in the check of the gradients, which takes one picture
        if len(calls) == 2:
            raise RuntimeError("a kernel failed")
        return original(self, x0, *arguments)

    monkeypatch.setattr(core.host.HostModel, "prediction_error", fails_in_the_second_step)
    with pytest.raises(RuntimeError, match="a kernel failed"):
        learn(core, loaded, drawn, tmp_path)
    assert kept_in(core, tmp_path).metadata["reversion.steps_done"] == "1"


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_vector(core, loaded, drawn, tmp_path, monkeypatch):
    original, calls = core.host.HostModel.prediction_error, []

    def spoils_the_third_step(self, x0, *arguments):
        calls.extend([1] if len(x0) == 2 else [])
        return original(self, x0, *arguments) * (float("inf") if len(calls) == 3 else 1)

    good = {}
    monkeypatch.setattr(core.host.HostModel, "prediction_error", spoils_the_third_step)

    def remember(learner, previews):
        if learner:
            good[learner.step] = learner.vectors["clip_l"]

    with pytest.raises(core.errors.ReVersionError, match="is not a finite number .*relation of step 2 is kept"):
        learn(core, loaded, drawn, tmp_path, remember, steps=5)
    assert torch.equal(kept_in(core, tmp_path).vectors["clip_l"], good[2])


def test_same_inputs_give_the_same_bits_and_a_finished_run_is_not_repeated(core, loaded, drawn, tmp_path):
    first = learn(core, loaded, drawn, tmp_path / "a")
    torch.randn(5)  # the global random state plays no part
    second = learn(core, loaded, drawn, tmp_path / "b")
    assert torch.equal(first.relation.vectors["clip_l"], second.relation.vectors["clip_l"])
    other = learn(core, loaded, drawn, tmp_path / "b", seed=1)
    assert not torch.equal(first.relation.vectors["clip_l"], other.relation.vectors["clip_l"])

    seen = []
    again = learn(core, loaded, drawn, tmp_path / "a", lambda learner, previews: seen.append(learner))
    assert not seen
    assert torch.equal(first.relation.vectors["clip_l"], again.relation.vectors["clip_l"])
    assert again.history == first.history


def test_the_norm_can_be_kept_at_the_vocabulary_s(core, loaded, drawn, tmp_path):
    kept = learn(core, loaded, drawn, tmp_path, norm="vocabulary", learning_rate=0.05)
    norm = float(core.host.token_table(loaded.clip, "clip_l").float().norm(dim=1).mean())
    assert kept.history[-1]["norm"] == pytest.approx(norm, rel=1e-5)
    free = learn(core, loaded, drawn, tmp_path, norm="free", learning_rate=0.05)
    assert float(free.relation.vectors["clip_l"].norm()) != pytest.approx(norm, rel=1e-3)
