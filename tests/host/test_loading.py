"""Models that the host moves about, as ComfyUI 0.16 and later does on graphics cards."""

import copy
from collections import Counter

import pytest
import random_model_configs
import random_models
import torch
from training import Stop, learn, stop_at

from lab.bench.widths import known


def with_dtypes_of_the_file(network, dtype=torch.float32):
    """What the host leaves of a network that it loads for a twin: some layers are as the file has them."""
    for part in network.modules():
        for name, weight in part._parameters.items():
            if isinstance(part, (torch.nn.Linear, torch.nn.Embedding)) and weight is not None:
                setattr(part, f"{name}_comfy_model_dtype", weight.dtype)
                part._parameters[name] = torch.nn.Parameter(weight.to(dtype), requires_grad=False)


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
                    twin = copy.deepcopy(self.model, {id(config): config})
                    with_dtypes_of_the_file(twin)
                self.twin = twin, {}, {}
            model, backup, object_backup = self.twin
            delegate = comfy.model_patcher.ModelPatcher(model, self.load_device, self.offload_device)
            delegate.parent = self
            delegate.patches = {key: list(patches) for key, patches in self.patches.items()}
            delegate.patches_uuid = self.patches_uuid
            delegate.backup, delegate.object_patches_backup = backup, object_backup
            return delegate

        def patch_model(self, *args, **kwargs):
            raise AssertionError("the moving form was loaded")

    given = random_models.build("SD 1.x", embeddings, dtype=torch.bfloat16)
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


@pytest.mark.parametrize(("share", "kept"), [(2.0, True), (0.5, False)])
def test_a_twin_is_given_up_where_the_memory_is_short(core, moving, monkeypatch, share, kept):
    """The host keeps it for the next time, beside the moving form."""
    import comfy.model_management

    given = moving.model, moving.clip.patcher
    model, clip = core.host.load_for_training(moving.model, moving.clip, "test")
    given[0].non_dynamic_delegate_model = given[1].non_dynamic_delegate_model = twin = object()
    free = {"free": 1e30}
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda *_, **__: free["free"])
    free["free"] = share * model.model_size()
    core.host.unload_twins((model, given[1]), given)
    assert (given[0].non_dynamic_delegate_model is twin) == kept
    assert given[1].non_dynamic_delegate_model is twin


def test_what_hangs_on_the_layers_of_a_moving_model_is_refused(core, moving):
    """The twin has layers of its own, without what the host's bypass LoRA hung on these."""
    moving.model.injections["bypass_lora"] = [object()]
    with pytest.raises(core.errors.ReVersionError, match="test.*model.*bypass_lora.*Load LoRA"):
        core.host.load_for_training(moving.model, moving.clip, "test")


def test_a_training_over_moving_models_leaves_no_twin(core, moving, loaded, drawn, tmp_path, monkeypatch):
    unloaded = []
    monkeypatch.setattr(core.run.host, "unload_twins", lambda *given: unloaded.append(given))
    moving.vae = loaded.vae
    with pytest.raises(Stop):
        learn(core, moving, drawn, tmp_path, stop_at(1))
    (((model, text), given),) = unloaded
    assert given == (moving.model, moving.clip.patcher) and model is not given[0] and text is not given[1]


def dtypes(network):
    """How many weights of a network have a dtype, by the class of their layer."""
    return Counter(
        (type(part).__name__, weight.dtype) for part in network.modules() for weight in part._parameters.values()
        if weight is not None
    )  # fmt: skip


def test_weights_of_a_twin_have_the_dtypes_that_the_model_computes_in(core, moving):
    model, clip = core.host.load_for_training(moving.model, moving.clip, "test")
    assert dtypes(model.model.diffusion_model) == dtypes(moving.model.model.diffusion_model)
    assert {kind for _, kind in dtypes(model.model.diffusion_model)} == {torch.bfloat16}
    held = list(model.model.parameters())
    core.host.load_for_training(moving.model, moving.clip, "test")
    assert all(now is before for now, before in zip(model.model.parameters(), held, strict=True))


@pytest.mark.parametrize("name", ["SD 1.x", "SD 3.x with CLIP-L"])
def test_a_twin_as_the_host_loads_it_gives_gradients(core, embeddings, monkeypatch, name):
    """A float32 file on a card where the host computes in bfloat16."""
    import comfy.model_patcher
    import comfy.supported_models

    memory = pytest.importorskip("comfy.memory_management", reason="this host has no dynamic VRAM")
    given, member = random_models.build(name, embeddings), random_model_configs.MEMBERS[name]
    file = {key: weight.clone() for key, weight in given.model.model.diffusion_model.state_dict().items()}
    config = getattr(comfy.supported_models, member.kind)(dict(known(member.network)))
    config.set_inference_dtype(torch.bfloat16, None)
    with monkeypatch.context() as patched, torch.inference_mode():
        patched.setattr(memory, "aimdo_enabled", True)
        base = config.get_model({}, device=torch.device("cpu"))
        base.load_model_weights(file, "", assign=False)
    assert {kind for _, kind in dtypes(base.diffusion_model)} == {torch.float32, torch.bfloat16}
    twin = comfy.model_patcher.ModelPatcher(base, given.model.load_device, given.model.offload_device)
    given.model.is_dynamic = lambda: True
    given.model.get_non_dynamic_delegate = lambda: twin
    tokens = core.host.caption_tokens(given.clip, ["cat {} stone"], 1)
    model, clip = core.host.load_for_training(given.model, given.clip, "test")
    rows = {
        key: core.host.word_rows(clip, key, ["and"]).clone().requires_grad_() for key in core.host.encoder_keys(clip)
    }
    x0 = torch.randn(1, *given.latents, generator=torch.Generator().manual_seed(1))
    with core.host.borrowed_model(model, clip, tokens) as borrowed, borrowed.recording():
        borrowed.prediction_error(x0, x0, torch.tensor([500]), borrowed.encode([0], rows)).sum().backward()
    assert all(row.grad.norm() > 0 for row in rows.values())
    assert {kind for _, kind in dtypes(base.diffusion_model)} == {torch.bfloat16}


@pytest.mark.parametrize("failing", [0, 1])
def test_no_twin_stays_on_the_device_where_loading_fails_half_way(core, moving, monkeypatch, failing):
    import comfy.model_management
    import comfy.model_patcher

    load, count, twins = comfy.model_patcher.ModelPatcher.load, [], []
    monkeypatch.setattr(comfy.model_patcher.ModelPatcher, "detach", noted(twins, "detach"))

    def fail(self, *args, **kwargs):
        count.append(self)
        if len(count) == failing + 1:
            raise torch.OutOfMemoryError("simulated")
        return load(self, *args, **kwargs)

    monkeypatch.setattr(comfy.model_patcher.ModelPatcher, "load", fail)
    with pytest.raises(torch.OutOfMemoryError):
        core.host.load_for_training(moving.model, moving.clip, "test")
    assert {id(patcher.model) for patcher in twins} >= {id(moving.model.twin[0]), id(moving.clip.patcher.twin[0])}
    held = [loaded.model and loaded.model.model for loaded in comfy.model_management.current_loaded_models]
    assert not any(twin is one for twin in (moving.model.twin[0], moving.clip.patcher.twin[0]) for one in held)


def noted(calls, name):
    """A method of the host's patchers that also notes whose it was."""
    import comfy.model_patcher

    method = getattr(comfy.model_patcher.ModelPatcher, name)

    def call(self, *args, **kwargs):
        calls.append(self)
        return method(self, *args, **kwargs)

    return call


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


def test_a_host_that_keeps_models_off_the_card_is_named(core, embeddings, monkeypatch):
    from reversion_pack.reversion_core.host import loading

    management = loading.comfy.model_management
    network = random_models.build("SD 1.x", embeddings).model.model.diffusion_model
    network.out[2].to("meta")
    monkeypatch.setattr(management, "vram_state", management.VRAMState.NO_VRAM)
    with pytest.raises(core.errors.MachineError, match=r"started with --novram, .*; start ComfyUI without --novram"):
        loading.check_residency(network, torch.device("cpu"), "ReVersion Train", "model")
