"""The name of MODEL, CLIP and VAE under which a run is kept: with the host's own nodes, loaded and not."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from lab.harness import comfyui

ATTENTION = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k"
TEXT = "lora_te_text_model_encoder_layers_0_mlp_fc1"


def write_loras(folder):
    """A LoRA, and a LoKr, of the UNet and the text encoder."""
    generator = torch.Generator().manual_seed(0)

    def random(*size):
        return torch.randn(*size, generator=generator) * 0.01

    lora = {}
    for name, out, into in ((ATTENTION, 320, 768), (TEXT, 3072, 768)):
        lora |= {f"{name}.lora_up.weight": random(out, 4), f"{name}.lora_down.weight": random(4, into)}
        lora[f"{name}.alpha"] = torch.tensor(4.0)
    save_file(lora, str(folder / "lora.safetensors"))
    lokr = {f"{ATTENTION}.lokr_w1": random(4, 4), f"{ATTENTION}.lokr_w2": random(80, 192)}
    save_file(lokr, str(folder / "lokr.safetensors"))


@pytest.fixture(scope="module", autouse=True)
def loras(reversion, tmp_path_factory):
    import folder_paths

    folder = tmp_path_factory.mktemp("loras")
    write_loras(folder)
    known = folder_paths.folder_names_and_paths
    before, known["loras"] = known["loras"], ([str(folder)], {".safetensors"})
    yield folder
    known["loras"] = before


def node(module, name, of="model"):
    """A node of the host as a function of the MODEL or CLIP that it changes."""

    def apply(given, *values):
        kind = getattr(importlib.import_module(module), name)
        function = kind.execute if hasattr(kind, "define_schema") else getattr(kind(), kind.FUNCTION)
        return {of: function(getattr(given, of), *values)[0]}

    return apply


def lora(given, name, of_model, of_clip, module="nodes", kind="LoraLoader"):
    loader = getattr(importlib.import_module(module), kind)()
    model, clip = loader.load_lora(given.model, given.clip, f"{name}.safetensors", of_model, of_clip)
    return {"model": model, "clip": clip}


def bypass(given, *values):
    return lora(given, *values, module="comfy_extras.nodes_lora_debug", kind="LoraLoaderBypass")


def merge(given, ratio):
    from comfy_extras.nodes_model_merging import ModelMergeSimple

    import nodes

    other = nodes.LoraLoaderModelOnly().load_lora_model_only(given.model, "lora.safetensors", 1.0)[0]
    return {"model": ModelMergeSimple().merge(given.model, other, ratio)[0]}


def clip_hooks(given, strength, scheduled, of_conds):
    from comfy_extras import nodes_hooks

    (hooks,) = nodes_hooks.CreateHookLora().create_hook("lora.safetensors", strength, strength)
    (frames,) = nodes_hooks.CreateHookKeyframe().create_hook_keyframe(0.5, 0.2)
    (hooks,) = nodes_hooks.SetHookKeyframes().set_hook_keyframes(hooks, frames)
    return {"clip": nodes_hooks.SetClipHooks().apply_hooks(given.clip, scheduled, of_conds, hooks)[0]}


def vae_of(given, dtype):
    import comfy.sd

    with torch.inference_mode():
        weights = {name: weight.clone() for name, weight in given.vae.first_stage_model.state_dict().items()}
        return {"vae": comfy.sd.VAE(sd=weights, dtype=dtype)}


ADVANCED = "comfy_extras.nodes_model_advanced"
ATTENTIONS = "comfy_extras.nodes_attention_multiply"
DISCRETE = node(ADVANCED, "ModelSamplingDiscrete")
# What is applied, with which values, and with which others.
ROWS = {
    "LoraLoader, model": (lora, ("lora", 0.5, 0.0), ("lora", 1.0, 0.0)),
    "LoraLoader, clip": (lora, ("lora", 0.0, 0.5), ("lora", 0.0, 1.0)),
    "LoraLoader, LoKr": (lora, ("lokr", 0.5, 0.0), ("lora", 0.5, 0.0)),
    "LoraLoaderBypass": (bypass, ("lora", 0.5, 0.5), ("lora", 0.5, 1.0)),
    "ModelMergeSimple": (merge, (0.3,), (0.6,)),
    "CLIPSetLastLayer": (node("nodes", "CLIPSetLastLayer", "clip"), (-2,), (-1,)),
    "SetClipHooks": (clip_hooks, (0.5, False, True), (1.0, False, True)),
    "SetClipHooks, schedule": (clip_hooks, (0.5, True, False), (0.5, True, True)),
    "CLIPAttentionMultiply": (node(ATTENTIONS, "CLIPAttentionMultiply", "clip"), (0.5, 1, 1, 1), (2.0, 1, 1, 1)),
    "T5TokenizerOptions": (node("comfy_extras.nodes_cond", "T5TokenizerOptions", "clip"), (0, 10), (0, 20)),
    "VAE": (vae_of, (torch.bfloat16,), (torch.float16,)),
    "ModelSamplingDiscrete": (DISCRETE, ("v_prediction", False), ("eps", False)),
    "ModelSamplingDiscrete, zsnr": (DISCRETE, ("eps", True), ("eps", False)),
    "ModelSamplingDiscrete, x0": (DISCRETE, ("x0", False), ("lcm", False)),
    "ModelSamplingContinuousEDM": (node(ADVANCED, "ModelSamplingContinuousEDM"), ("edm", 80, 0.1), ("edm", 90, 0.1)),
    "ModelSamplingSD3": (node(ADVANCED, "ModelSamplingSD3"), (3.0,), (2.0,)),
    "RescaleCFG": (node(ADVANCED, "RescaleCFG"), (0.7,), (0.5,)),
    "ModelComputeDtype": (node(ADVANCED, "ModelComputeDtype"), ("bf16",), ("fp16",)),
    "FreeU_V2": (node("comfy_extras.nodes_freelunch", "FreeU_V2"), (1.3, 1.4, 0.9, 0.2), (1.2, 1.4, 0.9, 0.2)),
    "HyperTile": (node("comfy_extras.nodes_hypertile", "HyperTile"), (256, 2, 0, False), (128, 2, 0, False)),
    "TomePatchModel": (node("comfy_extras.nodes_tomesd", "TomePatchModel"), (0.3,), (0.6,)),
    "SelfAttentionGuidance": (node("comfy_extras.nodes_sag", "SelfAttentionGuidance"), (0.5, 2.0), (0.5, 1.0)),
    "PerturbedAttentionGuidance": (node("comfy_extras.nodes_pag", "PerturbedAttentionGuidance"), (3.0,), (2.0,)),
    "PatchModelAddDownscale": (
        node("comfy_extras.nodes_model_downscale", "PatchModelAddDownscale"),
        (1, 2.0, 0.0, 0.35, True, "bicubic", "bicubic"),
        (1, 2.0, 0.0, 0.5, True, "bicubic", "bicubic"),
    ),
    "UNetCrossAttentionMultiply": (node(ATTENTIONS, "UNetCrossAttentionMultiply"), (0.5, 1, 1, 1), (2.0, 1, 1, 1)),
    "TorchCompileModel": (
        node("comfy_extras.nodes_torch_compile", "TorchCompileModel"),
        ("inductor",),
        ("cudagraphs",),
    ),
}


def with_node(given, row, other=False):
    apply, *values = ROWS[row]
    return SimpleNamespace(**{**vars(given), **apply(given, *values[other])})


def named(core, given):
    return core.host.model_identity(given.model, given.clip, given.vae)


def patchers(given):
    return given.model, given.clip.patcher, given.vae.patcher


@pytest.mark.parametrize("row", ROWS)
def test_a_node_changes_the_identity_whatever_is_loaded(core, loaded, row):
    import comfy.model_management as management

    if row == "LoraLoaderBypass" and not (comfyui.path() / "comfy_extras" / "nodes_lora_debug.py").exists():
        pytest.skip("this host has no bypass LoRAs")
    management.unload_all_models()
    plain, (first, same, other) = named(core, loaded), (with_node(loaded, row, i) for i in (False, False, True))
    found = named(core, first)
    assert found.unidentified == plain.unidentified == ()
    assert found == named(core, same) != plain
    assert named(core, other) not in (found, plain)
    try:
        with torch.inference_mode():
            management.load_models_gpu([*patchers(first)], force_full_load=True)
            assert named(core, first) == found == named(core, same) and named(core, loaded) == plain
            management.unload_all_models()
            for patcher in patchers(first)[:2]:
                patcher.patch_model(patcher.load_device, lowvram_model_memory=20_000_000)
            assert named(core, first) == found == named(core, same) and named(core, loaded) == plain
    finally:
        for patcher in patchers(first)[:2]:
            patcher.unpatch_model(patcher.offload_device)
        management.unload_all_models()


@pytest.mark.parametrize("row", ["HyperTile", "SelfAttentionGuidance", "LoraLoader, model", "ModelSamplingDiscrete"])
def test_sampling_leaves_no_trace_in_the_identity(core, loaded, row):
    import nodes

    first = with_node(loaded, row)
    before = named(core, first)
    with torch.inference_mode():
        (prompt,) = nodes.CLIPTextEncode().encode(first.clip, "red circle")
        latent = {"samples": torch.zeros(1, 4, 8, 8)}
        nodes.KSampler().sample(first.model, 1, 1, 4.0, "euler", "normal", prompt, prompt, latent)
        nodes.VAEEncode().encode(first.vae, torch.zeros(1, 64, 64, 3))
    assert named(core, first) == before


ANOTHER_PROCESS = """
import json, sys
from types import SimpleNamespace
import test_identity
from lab.harness import comfyui
comfyui.make_importable()
import comfy.sd, folder_paths, torch
from reversion_core.host import model_identity
with torch.inference_mode():
    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(sys.argv[1])
folder_paths.folder_names_and_paths["loras"] = ([sys.argv[2]], {".safetensors"})
given = SimpleNamespace(model=model, clip=clip, vae=vae)
for row in json.loads(sys.argv[3]):
    given = test_identity.with_node(given, row)
found = model_identity(given.model, given.clip, given.vae)
print(json.dumps([found.parts, found.unidentified]))
"""


def test_another_process_gives_the_same_identity(core, loaded, checkpoint, loras):
    rows = [row for row in ROWS if row not in ("LoraLoaderBypass", "ModelMergeSimple", "TorchCompileModel")]
    given = loaded
    for row in rows:
        given = with_node(given, row)
    found = named(core, given)
    imported_from = os.pathsep.join([str(comfyui.ROOT), str(Path(__file__).resolve().parent)])
    arguments = [str(checkpoint), str(loras), json.dumps(rows)]
    seen = subprocess.run(
        [sys.executable, "-c", ANOTHER_PROCESS, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": imported_from},
    )
    assert seen.returncode == 0, seen.stderr
    assert json.loads(seen.stdout.splitlines()[-1]) == [found.parts, []]


@pytest.mark.parametrize(("of", "name"), [("model", "model"), ("clip", "clip"), ("vae", "vae")])
def test_another_weight_is_another_identity(core, loaded, of, name):
    before = named(core, loaded)
    module = {"model": loaded.model.model.diffusion_model, "clip": loaded.clip.cond_stage_model}.get(of)
    weight = next(w for w in (module or loaded.vae.first_stage_model).parameters() if w.ndim > 1)
    kept = weight.clone()
    try:
        with torch.inference_mode():
            weight.add_(1)
        after = named(core, loaded)
    finally:
        with torch.inference_mode():
            weight.copy_(kept)
    assert {part for part in before.parts if before.parts[part] != after.parts[part]} == {f"{name} weights"}


def test_a_weight_that_the_host_cast_in_place_is_named_as_it_was_loaded(core, loaded):
    """Dynamic VRAM does so with the small ones."""
    import comfy.utils

    before, model, name = named(core, loaded), loaded.model, "diffusion_model.out.2.bias"
    weight = comfy.utils.get_attr(model.model, name)
    model.backup[name] = SimpleNamespace(weight=weight, inplace_update=False)
    try:
        comfy.utils.set_attr_param(model.model, name, weight.half())
        assert named(core, loaded) == before
        del model.backup[name]
        assert named(core, loaded) != before
    finally:
        comfy.utils.set_attr(model.model, name, weight)
    assert named(core, loaded) == before


def test_a_weight_that_the_host_cast_for_good_is_named_as_it_is_computed_in(core, loaded):
    """Dynamic VRAM does so with those of modules that hold others: a half precision file's then change their dtype."""
    module, given = loaded.clip.cond_stage_model.clip_l, vars(loaded.clip.cond_stage_model.clip_l)
    held, before = module.logit_scale, given.get("logit_scale_comfy_model_dtype")
    try:
        module.logit_scale_comfy_model_dtype = torch.float32
        with torch.inference_mode():
            module.logit_scale = torch.nn.Parameter(torch.tensor(4.6055).half(), requires_grad=False)
        of_file = named(core, loaded)
        with torch.inference_mode():
            module.logit_scale = torch.nn.Parameter(module.logit_scale.float(), requires_grad=False)
        assert named(core, loaded) == of_file
        module.logit_scale_comfy_model_dtype = torch.bfloat16
        assert named(core, loaded) != of_file
    finally:
        module.logit_scale = held
        del module.logit_scale_comfy_model_dtype
        given |= {"logit_scale_comfy_model_dtype": before} if before else {}


def test_what_the_vae_computes_in_is_another_identity(core, loaded, monkeypatch):
    """Under dynamic VRAM its weights keep the dtype of the file."""
    before = named(core, loaded)
    monkeypatch.setattr(loaded.vae, "vae_dtype", torch.float16)
    after = named(core, loaded)
    assert {part for part in before.parts if before.parts[part] != after.parts[part]} == {"vae"}


def test_fp8_weights_are_another_identity(core, loaded, checkpoint):
    import comfy.sd

    with torch.inference_mode():
        model, *_ = comfy.sd.load_checkpoint_guess_config(
            str(checkpoint), output_vae=False, output_clip=False, model_options={"dtype": torch.float8_e4m3fn}
        )
    before, found = named(core, loaded), core.host.model_identity(model, loaded.clip, loaded.vae)
    assert found.unidentified == () and found.parts["compute dtype"].startswith("torch.float8_e4m3fn in ")
    assert found.parts["model weights"] != before.parts["model weights"]


def test_provenance_says_what_a_relation_was_learned_with(core, loaded):
    given = with_node(with_node(with_node(loaded, "LoraLoader, model"), "CLIPSetLastLayer"), "ModelSamplingDiscrete")
    told = core.host.provenance(given.model, given.clip)
    assert told["prediction"] == "ModelSamplingDiscrete V_PREDICTION" and told["clip_skip"] == -2
    assert told["model_patches"] == "1 on 1 weights, model_sampling" and told["clip_patches"] == ""
    assert json.loads(json.dumps(told)) == told
