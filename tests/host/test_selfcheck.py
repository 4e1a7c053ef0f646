"""A host that gives wrong gradients is told of before a training that would teach nothing."""

import contextlib
from types import SimpleNamespace

import pytest
import random_model_configs
import random_models
import torch


@pytest.fixture(scope="module")
def given(reversion, embeddings):
    return random_models.build("SD 1.x", embeddings)


def check(core, given, spoil=None, in_turns=""):
    tokens = core.host.caption_tokens(given.clip, ["cat {} stone"], 1)
    model, clip = core.host.load_for_training(given.model, given.clip, "test", bool(in_turns))
    network = model.model.diffusion_model
    hook = network.register_forward_pre_hook(spoil, with_kwargs=True) if spoil else None
    try:
        with core.host.borrowed_model(model, clip, tokens, in_turns=in_turns) as borrowed:
            rows = {key: core.host.word_rows(clip, key, ["and"]) for key in core.host.encoder_keys(clip)}
            x0 = torch.randn(1, *given.latents, generator=torch.Generator().manual_seed(1))
            core.host.check_gradients(borrowed, rows, x0, "ReVersion Train")
    finally:
        if hook:
            hook.remove()


def detached(_, args, kwargs):
    return args, {**kwargs, "context": kwargs["context"].detach()}


def turned(_, args, kwargs):
    """A backward pass that is none of this forward pass."""
    context = kwargs["context"]
    return args, {**kwargs, "context": context.detach() * 2 - context}


def of_another_size(_, args, kwargs):
    raise ZeroDivisionError("size")


def without_autograd(_, args, kwargs):
    context = kwargs["context"]
    return args, {**kwargs, "context": torch.add(context, 0, out=torch.empty_like(context))}


def test_right_gradients_of_a_model_that_bends_pass(core):
    """A tenth of R's size is no small step here: the secant is a third of the slope."""
    word = torch.ones(1, 8)
    model = SimpleNamespace(
        timesteps=1000,
        takes_turns=False,
        encode=lambda captions, relation: [{"cross_attn": relation["clip_l"]}],
        prediction_error=lambda x0, noise, t, features: torch.tanh(30 * (features[0]["cross_attn"] - word)),
        recording=contextlib.nullcontext,
    )
    core.host.check_gradients(model, {"clip_l": word}, torch.zeros(1, 4, 8, 8), "ReVersion Train")


@pytest.mark.parametrize("name", random_model_configs.MEMBERS)
def test_right_gradients_pass(core, embeddings, caplog, name):
    if not random_models.exists(name):
        pytest.skip(f"ComfyUI has {name} since {random_model_configs.MEMBERS[name].since}")
    check(core, random_models.build(name, embeddings))
    assert "could not be checked" not in caplog.text


def test_a_probe_that_fails_says_nothing(core, given, caplog):
    """It is of another size than what trains, which a network may not take."""
    check(core, given, of_another_size)
    assert "could not be checked beforehand (size)" in caplog.text


@pytest.mark.parametrize("kind", ["OOM_EXCEPTION", "InterruptProcessingException"])
def test_too_little_memory_and_a_cancel_end_the_probe(core, given, kind):
    import comfy.model_management

    def fail(_, args, kwargs):
        raise getattr(comfy.model_management, kind)

    with pytest.raises(getattr(comfy.model_management, kind)):
        check(core, given, fail)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(detached, "does not require grad"), (turned, "-1 of what"), (without_autograd, "automatic differentiation")],
)
@pytest.mark.parametrize("in_turns", ["", "ReVersion Train"], ids=["together", "in turns"])
def test_wrong_gradients_are_refused(core, given, spoil, said, in_turns):
    with pytest.raises(
        core.errors.ReVersionError, match=f"input 'model': .* computes wrong gradients through clip_l .*{said}"
    ):
        check(core, given, spoil, in_turns)


def test_the_probe_has_models_that_take_turns_change_places_a_few_times(core, given, monkeypatch):
    from reversion_pack.reversion_core.host import loading

    take_turns, moves = loading.take_turns, []
    monkeypatch.setattr(loading, "take_turns", lambda *given: moves.append(1) or take_turns(*given))
    check(core, given, in_turns="ReVersion Train")
    assert len(moves) <= 5
