"""The preset for a single exemplar in the real host: it learns from views, and is known by them."""

import dataclasses
import json

import pytest
import torch
from training import Stop, learn, stop_at


@pytest.fixture
def single(drawn):
    """One exemplar whose two captions name no colour."""
    captions = (("circle {} square", "a round thing {} a box"),)
    return dataclasses.replace(drawn, names=drawn.names[:1], pictures=drawn.pictures[:1], captions=captions)


@pytest.fixture
def preset(core):
    return dataclasses.asdict(core.settings.PRESETS["one picture"]) | {"steps": 2, "batch_size": 1}


def test_the_preset_learns_from_the_views_that_the_model_knows_with_all_captions(
    core, loaded, single, tmp_path, preset, watched, monkeypatch
):
    """Pixel art on a grid: of most of its views the miniature knows less."""
    learners, encoded, encode = [], [], loaded.vae.encode
    monkeypatch.setattr(loaded.vae, "encode", lambda pixels: encoded.append(pixels) or encode(pixels))
    learned = learn(core, loaded, single, tmp_path, lambda learner, _: learners.append(learner), **preset)
    assert len({bytes(pixels.numpy()) for pixels in encoded}) == 8 == len(encoded)
    data = learners[-1].data
    known = len(data.mean)
    assert 1 <= known < 8 and data.captions == ((0, 1),) * known
    assert len(learned.history) == 2
    said = "\n".join(learned.messages)
    assert (
        "8 views of each picture" in said and f"{8 - known} of 8 views are left out: this model knows no such" in said
    )
    settings = json.loads(learned.relation.metadata["reversion.settings"])
    assert (settings["augmentation"], settings["prior"], settings["norm"]) == ("views", "span", "vocabulary")


def test_a_run_with_views_is_another_and_goes_on_where_it_was_stopped(
    core, loaded, single, tmp_path, preset, monkeypatch
):
    from reversion_pack.reversion_core.exemplars import augment

    monkeypatch.setattr(core.run, "known_views", lambda model, data, *rest: list(range(len(data.mean))))
    few = dataclasses.replace(augment.AUGMENTATIONS["views"], count=2)  # for the time it takes
    monkeypatch.setitem(augment.AUGMENTATIONS, "views", few)
    unbroken = learn(core, loaded, single, tmp_path / "unbroken", **preset)
    with pytest.raises(Stop):
        learn(core, loaded, single, tmp_path, stop_at(1), **preset)
    resumed = learn(core, loaded, single, tmp_path, **preset)
    assert torch.equal(resumed.relation.vectors["clip_l"], unbroken.relation.vectors["clip_l"])
    plain = learn(core, loaded, single, tmp_path, **preset | {"augmentation": "none"})
    assert plain.relation.metadata["reversion.key"] != resumed.relation.metadata["reversion.key"]
    assert not torch.equal(plain.relation.vectors["clip_l"], resumed.relation.vectors["clip_l"])
    assert len(list(tmp_path.glob("runs/*"))) == 2


def test_the_node_passes_its_choice_on(reversion, core, loaded, single, monkeypatch):
    from reversion_pack.nodes import train

    asked = []

    def learn_relation(model, clip, vae, inputs, *rest):
        asked.append(inputs.settings.augmentation)
        raise Stop

    monkeypatch.setattr(train.run, "learn_relation", learn_relation)
    given = dict.fromkeys(("steps", "batch_size", "accumulation", "learning_rate", "training_seed"), 0)
    given |= dict.fromkeys(("schedule", "norm", "precision", "optimizer"), "preset")
    given |= {"vectors": 1, "initial_word": "and"}
    models = loaded.model, loaded.clip, loaded.vae
    for preset, more in (
        ("one picture", {"augmentation": "preset"}),
        ("balanced", {"augmentation": "preset"}),
        ("one picture", {"augmentation": "none"}),
        ("one picture", {}),  # a workflow from before the input was there
    ):
        with pytest.raises(Stop):
            train.ReVersionTrain.execute(*models, single, preset, **given, **more)
    assert asked == ["views", "none", "none", "views"]
    with pytest.raises(core.errors.ReVersionError, match="input 'augmentation': there is no augmentation 'mirror'"):
        train.ReVersionTrain.execute(*models, single, "balanced", **given, augmentation="mirror")
