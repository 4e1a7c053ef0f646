"""Models that the host moves about, as ComfyUI 0.16 and later does on graphics cards."""

import copy

import pytest
import random_models
import torch
from training import Stop, learn, stop_at


@pytest.fixture
def moving(reversion, embeddings):
    """A small SD 1.x whose MODEL and CLIP have the host's dynamic patchers, by their outward behaviour in 0.33."""
    import comfy.model_patcher

    class Dynamic(comfy.model_patcher.ModelPatcher):
        reads = 0
        twin = None

        def is_dynamic(self):
            return True

        def get_non_dynamic_delegate(self):
            if self.twin is None:
                Dynamic.reads += 1
                config = getattr(self.model, "model_config", None)
                with torch.inference_mode():
                    self.twin = copy.deepcopy(self.model, {id(config): config}), {}, {}
            model, backup, object_backup = self.twin
            delegate = comfy.model_patcher.ModelPatcher(model, self.load_device, self.offload_device)
            delegate.parent = self
            delegate.patches = {key: list(patches) for key, patches in self.patches.items()}
            delegate.patches_uuid = self.patches_uuid
            delegate.backup, delegate.object_patches_backup = backup, object_backup
            return delegate

        def patch_model(self, *args, **kwargs):
            raise AssertionError("the moving form was loaded")

    given = random_models.build("SD 1.x", embeddings)
    given.model = Dynamic(given.model.model, given.model.load_device, given.model.offload_device)
    given.clip.patcher = Dynamic(given.clip.cond_stage_model, given.clip.patcher.load_device, torch.device("cpu"))
    given.kind = Dynamic
    return given


def features(core, model, clip):
    tokens = core.host.caption_tokens(clip, ["cat {} stone"], 1)
    with core.host.borrowed_model(model, clip, tokens) as borrowed, torch.no_grad():
        return borrowed.encode([0], {"clip_l": core.host.word_rows(clip, "clip_l", ["and"])})[0]["cross_attn"]


def test_what_is_loaded_is_what_encodes_and_trains(core, moving):
    key = "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
    plain = features(core, *core.host.load_for_training(moving.model, moving.clip, "test"))
    weight = moving.clip.cond_stage_model.state_dict()[key]
    moving.clip.patcher.add_patches({key: (torch.full_like(weight, 0.01),)})

    model, clip = core.host.load_for_training(moving.model, moving.clip, "test")
    assert model.model is not moving.model.model and clip.cond_stage_model is not moving.clip.cond_stage_model
    assert clip.cond_stage_model is clip.patcher.model
    changed = clip.cond_stage_model.state_dict()[key] - weight
    torch.testing.assert_close(changed, torch.full_like(weight, 0.01), rtol=1e-3, atol=1e-6)
    assert not torch.allclose(features(core, model, clip), plain)


def test_what_stood_in_for_moving_models_leaves_the_device(core, moving):
    """The host would lose sight of it: its entry in the list of what is loaded becomes that of the moving model."""
    import comfy.model_management

    given = moving.model, moving.clip.patcher
    model, clip = core.host.load_for_training(moving.model, moving.clip, "test")
    standing_in = model.model, clip.patcher.model
    core.host.unload_twins((model, clip.patcher), given)
    held = [loaded.real_model and loaded.real_model() for loaded in comfy.model_management.current_loaded_models]
    assert not any(network is one for network in standing_in for one in held)
    assert model.loaded_size() == clip.patcher.loaded_size() == 0


def test_a_training_over_moving_models_leaves_no_twin(core, moving, loaded, drawn, tmp_path, monkeypatch):
    unloaded = []
    monkeypatch.setattr(core.run.host, "unload_twins", lambda *given: unloaded.append(given))
    moving.vae = loaded.vae
    with pytest.raises(Stop):
        learn(core, moving, drawn, tmp_path, stop_at(1))
    (((model, text), given),) = unloaded
    assert given == (moving.model, moving.clip.patcher) and model is not given[0] and text is not given[1]


def test_a_checkpoint_is_not_read_again_at_each_training(core, moving):
    for _ in range(3):
        core.host.load_for_training(moving.model, moving.clip, "test")
    assert moving.kind.reads == 2  # MODEL and CLIP, once each


def test_a_model_that_cannot_be_held_still_is_refused(core, moving, monkeypatch):
    def cannot(self):
        raise RuntimeError("Cannot create non-dynamic delegate: cached_patcher_init is not initialized.")

    monkeypatch.setattr(moving.kind, "get_non_dynamic_delegate", cannot)
    with pytest.raises(core.errors.ReVersionError, match=r"input 'model': ComfyUI's dynamic VRAM .* own loaders"):
        core.host.load_for_training(moving.model, moving.clip, "ReVersion Train")


def test_a_model_that_is_loaded_in_part_is_refused(core, embeddings):
    from reversion_pack.reversion_core.host import loading

    given = random_models.build("SD 1.x", embeddings)
    network = given.model.model.diffusion_model
    loading.check_residency(network, torch.device("cpu"), "ReVersion Train", "model")
    network.out[2].to("meta")
    with pytest.raises(core.errors.ReVersionError, match=r"input 'model': 0\.0 of its 0\.\d GB do not fit .*; close"):
        loading.check_residency(network, torch.device("cpu"), "ReVersion Train", "model")
