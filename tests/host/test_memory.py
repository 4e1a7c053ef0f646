"""Less memory for the same relation: smaller micro-batches, then recomputed blocks, then a clear error."""

import contextlib
import gc
import itertools
import tracemalloc
import types

import numpy as np
import pytest
import random_models
import torch
from test_members import Pooling
from training import Stop, digest, learn, short_training, stop_at

BATCH = {"steps": 3, "batch_size": 4, "learning_rate": 0.01}


def replaced(module):
    """The names of parts whose forward is not their class's: recomputed ones, and those of other nodes before."""
    return {name for name, part in module.named_modules() if "forward" in vars(part)}


@pytest.fixture
def limited(loaded):
    """Make the UNet run out of memory where a test says so of (pictures, recomputed blocks)."""
    unet, handles = loaded.model.model.diffusion_model, []
    before = replaced(unet)

    def limit(refuses):
        def hook(module, arguments):
            recomputed = len(replaced(module) - before)
            if not arguments[0].is_meta and refuses(len(arguments[0]), recomputed):
                raise torch.OutOfMemoryError("simulated")

        handles.append(unet.register_forward_pre_hook(hook))

    yield limit
    for handle in handles:
        handle.remove()


def vectors(learned):
    return learned.relation.vectors["clip_l"]


@pytest.mark.parametrize(
    ("refuses", "said"),
    [
        (lambda pictures, recomputed: pictures > 1, ["2 pictures at once", "1 pictures at once"]),
        (lambda pictures, recomputed: not recomputed, ["gradient checkpointing"]),
    ],
)
def test_out_of_memory_learns_the_same_with_less(
    core,
    loaded,
    drawn,
    tmp_path,
    limited,
    watched,
    refuses,
    said,
):
    plain = learn(core, loaded, drawn, tmp_path / "plain", **BATCH)
    limited(refuses)
    thrifty = learn(core, loaded, drawn, tmp_path / "thrifty", **BATCH)
    warnings = [text for text in thrifty.messages if "out of memory" in text]
    assert len(warnings) == len(said) and all(text in line for text, line in zip(said, warnings, strict=True))
    assert torch.allclose(vectors(thrifty), vectors(plain), rtol=1e-3, atol=1e-5)


def test_low_memory_begins_where_the_others_end(core, loaded, drawn, tmp_path, limited, watched):
    plain = learn(core, loaded, drawn, tmp_path / "plain", **BATCH)
    limited(lambda pictures, recomputed: pictures > 1 or not recomputed)
    thrifty = learn(core, loaded, drawn, tmp_path / "thrifty", keep={"low_memory": True}, **BATCH)
    assert torch.allclose(vectors(thrifty), vectors(plain), rtol=1e-3, atol=1e-5)
    assert not any("out of memory" in text for text in thrifty.messages)


def test_too_little_memory_is_an_error_that_says_what_to_do(core, loaded, drawn, tmp_path, limited, watched):
    limited(lambda pictures, recomputed: True)
    with pytest.raises(core.errors.ReVersionError, match="one picture at a time .* set a smaller size"):
        learn(core, loaded, drawn, tmp_path, **BATCH)


@contextlib.contextmanager
def kept_beside(network):
    """Bytes of each storage that autograd keeps inside, but for the network's weights: by storage."""
    weights, kept = {p.untyped_storage()._cdata for p in network.parameters()}, {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield kept


def step(core, loaded, drawn, recompute):
    """(gradient of one micro-batch, bytes that it kept for the backward pass, pictures)."""
    inputs = short_training(core, drawn, accumulation=1)
    tokens = core.host.caption_tokens(loaded.clip, inputs.captions, 1)
    model, clip = core.host.load_for_training(loaded.model, loaded.clip, "test")
    generator = torch.Generator().manual_seed(0)
    with core.host.borrowed_model(model, clip, tokens, recompute=recompute) as borrowed, borrowed.recording():
        latents = torch.randn(8, 4, 8, 8, generator=generator)
        data = core.prepare.training_data(clip, inputs, latents, torch.zeros_like(latents))
        cdf = core.focal.cumulative(1000, inputs.focal)
        (batch,) = core.step.draw_update(data, inputs, cdf, [], generator)
        features = borrowed.encode(list(batch.captions), {"clip_l": core.host.word_rows(clip, "clip_l", ["and"])})
        context = torch.cat([of_one["cross_attn"] for of_one in features]).detach().requires_grad_()
        leaves = {c: {"cross_attn": context[i : i + 1]} for i, c in enumerate(batch.captions)}
        # Instead of the trainer's own hooks, which would hide what is saved.
        with kept_beside(model.model.diffusion_model) as kept:
            loss = core.losses.DenoisingErrors(borrowed, data, batch, leaves).for_captions.mean()
        loss.backward()
    return context.grad, sum(kept.values()), len(batch.captions)


def test_recomputed_blocks_give_the_same_gradient_and_keep_less(core, loaded, drawn):
    before = replaced(loaded.model.model.diffusion_model)
    plain, kept, _ = step(core, loaded, drawn, recompute=False)
    again, kept_less, _ = step(core, loaded, drawn, recompute=True)
    assert torch.allclose(plain, again, rtol=1e-4, atol=1e-9) and plain.abs().max() > 0
    assert kept_less < 0.5 * kept
    assert replaced(loaded.model.model.diffusion_model) == before


def kept_by(core, given, recompute):
    """(bytes that autograd really keeps of one picture, what was planned) of a small member of a family."""
    from reversion_pack.reversion_core.host.plan import memory_plan

    tokens = core.host.caption_tokens(given.clip, ["cat {} stone"], 1)
    model, clip = core.host.load_for_training(given.model, given.clip, "test")
    with core.host.borrowed_model(model, clip, tokens, recompute=recompute) as borrowed, borrowed.recording():
        plan = memory_plan(borrowed, given.latents)
        rows = {key: core.host.word_rows(clip, key, ["and"]) for key in core.host.encoder_keys(clip)}
        with torch.no_grad():
            features = borrowed.encode([0], rows)
        for value in features[0].values():
            if torch.is_tensor(value) and value.is_floating_point():
                value.requires_grad_()
        latents = torch.zeros(1, *given.latents)
        with kept_beside(model.model.diffusion_model) as kept:
            error = borrowed.prediction_error(latents, latents, torch.tensor([500]), features)
        assert error.requires_grad
    return sum(kept.values()), plan


@pytest.mark.parametrize("name", ["SD 1.x", "SDXL", "SD 3.x with CLIP-L", "Flux.1", "Chroma", "Z-Image", "Qwen-Image"])
def test_the_need_is_known_beforehand(core, embeddings, name):
    given = random_models.build(name, embeddings)
    kept, plan = kept_by(core, given, recompute=False)
    assert plan.saved_bytes == pytest.approx(kept, rel=0.2)
    kept_less, again = kept_by(core, given, recompute=True)
    assert kept_less < plan.checkpointed_bytes < plan.saved_bytes
    assert again.saved_bytes == again.checkpointed_bytes == plan.checkpointed_bytes
    assert plan.pictures == plan.free // plan.saved_bytes and plan.pictures_checkpointed > plan.pictures > 0


def test_the_need_of_a_network_that_is_recomputed_anyway_is_that_of_recomputing(core, embeddings):
    """Weights that are cast at each use: the block that is computed again holds its cast weights."""
    given = random_models.build("Flux.1", embeddings, dtype=torch.float8_e4m3fn, compute=torch.bfloat16)
    kept, plan = kept_by(core, given, recompute=False)
    assert kept < plan.saved_bytes == plan.checkpointed_bytes
    largest = max(
        sum(w.numel() for w in block.parameters()) for block in given.model.model.diffusion_model.double_blocks
    )
    assert plan.checkpointed_bytes > 2 * largest


@pytest.fixture
def one_at_a_time(monkeypatch):
    """The host has room for one model alone; gives the names of those that it loaded, in order."""
    import comfy.model_management as management

    load, order = management.load_models_gpu, []

    def loads(models, *given, **named):
        if len(models) > 1:
            raise torch.OutOfMemoryError("simulated")
        order.append(type(models[0].model).__name__)
        return load(models, *given, **named)

    yield lambda: monkeypatch.setattr(management, "load_models_gpu", loads), order


@pytest.mark.parametrize("name", ["SD 1.x", "Flux.1"])
def test_network_and_encoders_that_do_not_fit_together_take_turns_and_learn_the_same(
    core, embeddings, drawn, tmp_path, one_at_a_time, name
):
    given = random_models.build(name, embeddings)
    given.vae, before = Pooling(given.latents), digest(given.model.model, given.clip.cond_stage_model)
    plain = learn(core, given, drawn, tmp_path / "plain", **BATCH)
    limit, order = one_at_a_time
    limit()
    beside, network, text = [], given.model, given.clip.patcher

    def look(learner, previews):
        beside.append((network.loaded_size() > 0, text.loaded_size() > 0))

    apart = learn(core, given, drawn, tmp_path / "apart", look, **BATCH)
    assert sum("take turns" in text for text in apart.messages) == 1
    assert all(torch.equal(apart.relation.vectors[key], rows) for key, rows in plain.relation.vectors.items())
    assert apart.history == plain.history
    # The encoder comes and goes twice an update: to encode, and for the backward pass.
    assert all(one != other for one, other in itertools.pairwise(order)) and len(order) >= 3 * BATCH["steps"]
    assert beside[1:] == [(False, True)] * BATCH["steps"]
    assert digest(given.model.model, given.clip.cond_stage_model) == before


@pytest.mark.parametrize("offload", ["cpu", "cuda"])
def test_models_that_stay_on_the_card_do_not_take_turns(core, offload):
    """As with --highvram, where unloading one frees nothing."""
    card, other = torch.device("cuda"), torch.device(offload)
    patcher = types.SimpleNamespace(load_device=card, offload_device=other)
    clip = types.SimpleNamespace(patcher=types.SimpleNamespace(load_device=card, offload_device=other))
    assert core.host.can_take_turns(patcher, clip) == (offload == "cpu")


def test_the_verdict_has_them_change_places_a_few_times(core, embeddings, drawn, tmp_path, one_at_a_time, monkeypatch):
    from reversion_pack.reversion_core.training import verdict

    given = random_models.build("SD 1.x", embeddings)
    given.vae = Pooling(given.latents)
    limit, order = one_at_a_time
    limit()
    counts = []
    for smallest in (10**6, 1):
        monkeypatch.setattr(verdict, "SMALLEST_TRAINING", smallest)
        order.clear()
        learned = learn(core, given, drawn, tmp_path / str(smallest), **BATCH)
        counts.append(len(order))
    assert learned.relation.detail("verdict") and counts[1] - counts[0] <= 2 * 15


def test_the_table_of_real_widths_counts_stable_diffusion(core):
    """0.74 GB a picture of 512 x 512, 860 million weights."""
    from lab.bench import memory_table, widths

    found = memory_table.need(widths.WIDTHS[0], 512)
    assert found.kept == pytest.approx(0.74e9, rel=0.03) and found.network == pytest.approx(2 * 860e6, rel=0.01)
    assert found.pictures(6, checkpointing=False) == 3


def test_the_table_counts_network_and_encoders_that_take_turns():
    from lab.bench import memory_table

    found = memory_table.Need("a family", 1024, network=10 * 10**9, text=8 * 10**9, kept=9 * 10**9, recomputed=10**9)
    cells = [memory_table._cell(found, card, memory_table.ENGLISH) for card in (8, 12, 16, 24)]
    assert cells == ["no", "no", "4 in turns", "- / 3"]


def test_room_is_made_before_a_run_begins_with_less(core, loaded, drawn, tmp_path, watched, monkeypatch):
    """Another model that is loaded is moved away; what trains stays."""
    import comfy.model_management as management

    asked = []
    monkeypatch.setattr(management, "get_free_memory", lambda *given, **named: 2**20)
    monkeypatch.setattr(management, "free_memory", lambda wanted, device, keep_loaded=(): asked.append(keep_loaded))
    learned = learn(core, loaded, drawn, tmp_path, **BATCH)
    assert any("GB are free; trains with" in text for text in learned.messages)
    kept = {id(entry.model) for entries in asked for entry in entries if len(entries) == 2}
    assert {id(loaded.model), id(loaded.clip.patcher)} <= kept


def planned(monkeypatch, *plan_of):
    from reversion_pack.reversion_core.host import plan

    monkeypatch.setattr(plan, "memory_plan", lambda *arguments: plan.MemoryPlan(*plan_of))


def test_a_run_goes_on_with_what_fits_now(core, loaded, drawn, tmp_path, watched, monkeypatch):
    with pytest.raises(Stop):
        learn(core, loaded, drawn, tmp_path, stop_at(1), **BATCH)
    held = []
    planned(monkeypatch, 1000, 1, 1500)
    learn(core, loaded, drawn, tmp_path, lambda learner, _: held.append(learner and learner.samples_per_pass), **BATCH)
    assert held[1] == 1


def test_an_estimate_that_fails_does_not_end_a_run(core, loaded, drawn, tmp_path, monkeypatch):
    def fails(self, shape):
        raise RuntimeError("a patch that cannot do without numbers")

    monkeypatch.setattr(core.host.HostModel, "example_conditions", fails)
    assert learn(core, loaded, drawn, tmp_path, steps=1).history


def test_a_cancel_ends_the_estimate_and_the_run(core, loaded, drawn, tmp_path, monkeypatch):
    """Up to ComfyUI 0.19 it is an exception as any other."""
    import comfy.model_management

    def cancelled(self, shape):
        raise comfy.model_management.InterruptProcessingException

    monkeypatch.setattr(core.host.HostModel, "example_conditions", cancelled)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        learn(core, loaded, drawn, tmp_path, steps=1)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17.00 GB)"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:113] . DefaultCPUAllocator: can't allocate memory"), True),
        (getattr(torch, "AcceleratorError", RuntimeError)("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("Invalid buffer size: 17.25 GiB"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
        (KeyError("sigmas"), False),
    ],
)
def test_running_out_of_memory_is_known_on_every_device(core, error, expected):
    assert core.host.is_out_of_memory(error) == expected


def test_many_exemplars_cost_their_latents_only(core, loaded, tmp_path):
    pictures = tuple(np.full((64, 64, 3), i, np.uint8) for i in range(40))
    names, captions = tuple(map(str, range(40))), (("cat {} stone",),) * 40
    exemplars = core.exemplars.Exemplars(names, pictures, captions, size=256)
    tracemalloc.start()
    learn(core, loaded, exemplars, tmp_path, steps=1, batch_size=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < exemplars.fitted(256).nbytes / 3


def test_nothing_piles_up_over_the_updates(core, loaded, drawn, tmp_path):
    objects = []

    def count(learner, previews):
        if learner:
            gc.collect()
            objects.append(len(gc.get_objects()))

    learn(core, loaded, drawn, tmp_path, count, steps=12)
    assert objects[-1] - objects[3] < 5 * (len(objects) - 4)


@pytest.mark.parametrize(
    ("fitting", "with_checkpointing", "said"), [(2, 4, "2 pictures at once"), (0, 3, "checkpointing")]
)
def test_a_run_begins_with_as_many_pictures_as_fit(
    core, loaded, drawn, tmp_path, limited, watched, monkeypatch, fitting, with_checkpointing, said
):
    size = 1000
    free = fitting * size + size // 2
    planned(monkeypatch, size, free // with_checkpointing if not fitting else 1, free)
    most = fitting or with_checkpointing
    limited(lambda pictures, recomputed: pictures > most or (not fitting and not recomputed and pictures > 1))
    learned = learn(core, loaded, drawn, tmp_path, **BATCH)
    assert said in learned.messages[0] and not any("out of memory" in text for text in learned.messages)


def test_a_picture_whose_entities_are_swapped_too_counts_twice(core, loaded, drawn, tmp_path, watched, monkeypatch):
    from reversion_pack.reversion_core.host import plan

    made, planning = [], plan.memory_plan

    def listening(model, shape, dtype, pictures, forwards):
        made.extend(planning(model, shape, dtype, pictures, n) for n in (1, forwards))
        return made[-1]

    monkeypatch.setattr(plan, "memory_plan", listening)
    learn(core, loaded, drawn, tmp_path, steering={"swap": 0.01}, **BATCH)
    one, with_swapped = made
    assert with_swapped.saved_bytes == 2 * one.saved_bytes
    assert one.checkpointed_bytes < with_swapped.checkpointed_bytes < 2 * one.checkpointed_bytes


def test_what_ran_out_of_memory_before_the_plan_is_not_tried_again(
    core, loaded, drawn, tmp_path, limited, watched, monkeypatch
):
    """The probe runs out; the plan then counts recomputed blocks, of which three pictures fit."""
    planned(monkeypatch, 400, 400, 1300)
    limited(lambda pictures, recomputed: not recomputed)
    held = []
    learned = learn(core, loaded, drawn, tmp_path, lambda made, _: held.append(made and made.samples_per_pass), **BATCH)
    assert [text for text in learned.messages if "memory" in text or "checkpointing" in text] == [
        "out of memory; continuing more slowly, with gradient checkpointing",
        "0.0 GB are free; trains with 3 pictures at once and gradient checkpointing",
    ]
    assert held[1:] == [3, 3, 3]


def test_models_beside_which_nothing_fits_take_turns_before_they_run_out(
    core, loaded, drawn, tmp_path, watched, monkeypatch
):
    """A driver that lends a card the computer's memory never says that it ran out."""
    plain = learn(core, loaded, drawn, tmp_path / "plain", **BATCH)
    planned(monkeypatch, 1000, 800, 100)
    apart = learn(core, loaded, drawn, tmp_path / "apart", **BATCH)
    assert "GB are free beside the model and its text encoder; the model and its text encoder take" in apart.messages[0]
    assert "trains with 1 pictures at once and gradient checkpointing" in apart.messages[1]
    assert torch.allclose(vectors(apart), vectors(plain), rtol=1e-3, atol=1e-5)


def test_models_larger_than_the_device_take_turns_at_once(core, loaded, drawn, tmp_path, watched, monkeypatch):
    import comfy.model_management as management

    size = loaded.model.model_size() + loaded.clip.patcher.model_size()
    reserved = management.extra_reserved_memory()
    monkeypatch.setattr(management, "get_total_memory", lambda *given, **named: size + reserved - 1)
    assert "larger than the device's memory" in learn(core, loaded, drawn, tmp_path, steps=1).messages[0]
    monkeypatch.setattr(management, "get_total_memory", lambda *given, **named: size + reserved)
    messages = learn(core, loaded, drawn, tmp_path, steps=1, seed=1).messages
    assert not any("device's memory" in text for text in messages)


def test_other_models_leave_before_anything_is_learned_with_less(core, loaded, drawn, tmp_path, watched, monkeypatch):
    from reversion_pack.reversion_core.host import loading

    asked, run_out, here = [], [True], torch.device("cpu")
    ours, other = loaded.model, types.SimpleNamespace(offload_device=torch.device("meta"))
    entries = [types.SimpleNamespace(model=model, device=here) for model in (ours, other)]
    patcher = types.SimpleNamespace(load_device=here)
    monkeypatch.setattr(loading.comfy.model_management, "current_loaded_models", entries)
    free = loading.comfy.model_management.free_memory
    monkeypatch.setattr(
        loading.comfy.model_management, "free_memory", lambda size, device, keep_loaded: asked.append(keep_loaded)
    )
    assert loading.unload_others(ours, patcher) and asked == [entries[:1]]
    other.offload_device = here  # nothing is gained
    assert not loading.unload_others(ours, patcher) and len(asked) == 1
    monkeypatch.undo()
    assert loading.comfy.model_management.free_memory is free

    def run_out_once(made, _):
        if made and made.step == 1 and run_out:
            run_out.clear()
            raise torch.OutOfMemoryError("simulated")

    monkeypatch.setattr(core.run.host, "unload_others", lambda *patchers: patchers == (ours, loaded.clip.patcher))
    held = learn(core, loaded, drawn, tmp_path, run_out_once, **BATCH)
    assert [text for text in held.messages if "out of memory" in text] == [
        "out of memory; continuing after other models left the device"
    ]


@pytest.mark.parametrize(
    ("device", "amd", "flash", "fused"),
    [
        ("cpu", False, False, True),
        ("cuda", False, False, True),
        ("cuda", True, True, True),
        ("cuda", True, False, False),
        ("mps", False, False, False),
    ],
)
def test_devices_without_fused_attention_are_known(core, monkeypatch, device, amd, flash, fused):
    import comfy.model_management as management
    from reversion_pack.reversion_core.host import plan

    monkeypatch.setattr(management, "is_amd", lambda: amd)
    monkeypatch.setattr(management, "pytorch_attention_flash_attention", lambda: flash)
    assert plan.has_fused_attention(torch.device(device)) == fused


def test_without_fused_attention_the_plan_counts_the_probabilities(core, embeddings, monkeypatch):
    """As the host's plain attention, which keeps them, really does."""
    import comfy.ldm.modules.attention as attention
    from reversion_pack.reversion_core.host import plan

    given = random_models.build("SD 1.x", embeddings)
    given.latents = (4, 32, 32)
    fused, planned = kept_by(core, given, recompute=False)
    monkeypatch.setattr(plan, "has_fused_attention", lambda device: False)
    monkeypatch.setattr(attention, "attention_pytorch", attention.attention_basic)
    kept, with_probabilities = kept_by(core, given, recompute=False)
    assert kept > 1.5 * fused
    assert with_probabilities.saved_bytes - planned.saved_bytes == pytest.approx(kept - fused, rel=0.3)
