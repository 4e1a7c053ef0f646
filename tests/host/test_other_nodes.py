"""Whatever other nodes plug into MODEL and CLIP trains right, or is refused before any work: a row a node."""

import functools
import importlib.util
import sys
import tempfile
from pathlib import Path

import pytest
import random_models
import torch
from training import CAPTIONS, relation_of, weighted_error


@functools.cache
def loaded(module):
    """A file of the host's nodes as its server loads it: under the name of its path."""
    path = Path(importlib.import_module("comfy_extras").__path__[0]) / module
    spec = importlib.util.spec_from_file_location(str(path), path.with_suffix(".py"))
    sys.modules[str(path)] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[str(path)])
    return sys.modules[str(path)]


def run(module, name, *arguments):
    """The first output of a node of the host, in the old or the new way of writing nodes."""
    node = getattr(loaded(module), name)
    result = node.execute(*arguments) if hasattr(node, "execute") else getattr(node(), node.FUNCTION)(*arguments)
    return getattr(result, "args", result)[0]


def patched(module, name, *arguments):
    def plug(given):
        return run(module, name, given.model, *arguments), given.clip

    return plug


def with_bypassed_lora(given):
    import comfy.sd

    if not hasattr(comfy.sd, "load_bypass_lora_for_models"):
        pytest.skip("this ComfyUI has no LoraLoaderBypass")
    unet = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_v"
    text = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    lora, generator = {}, torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for key, (out, into) in {unet: (64, 768), text: (768, 768)}.items():
            lora[f"{key}.lora_up.weight"] = torch.randn(out, 2, generator=generator)
            lora[f"{key}.lora_down.weight"] = torch.randn(2, into, generator=generator) / into**0.5
        return comfy.sd.load_bypass_lora_for_models(given.model, given.clip, lora, 0.5, 0.1)


def with_hypernetwork(given, **options):
    from comfy_extras import nodes_hypernetwork

    generator = torch.Generator().manual_seed(0)
    names, weight = ("0", "1", "2"), torch.eye(768)
    weight = weight + torch.randn(768, 768, generator=generator) / 100
    layers = [{f"{n}.{p}": t for n in names for p, t in (("weight", weight), ("bias", weight[0] / 9))} for _ in "kv"]
    with tempfile.NamedTemporaryFile(suffix=".pt") as file, torch.inference_mode():
        torch.save({768: layers, **options}, file.name)
        patch = nodes_hypernetwork.load_hypernetwork_patch(file.name, 1.0)
    model = given.model.clone()
    model.set_model_attn1_patch(patch)
    model.set_model_attn2_patch(patch)
    return model, given.clip


def from_a_picture(given):
    sampling = importlib.import_module(f"comfy_extras.{ADVANCED}").ModelSamplingDiscrete
    if "img_to_img_flow" not in sampling.INPUT_TYPES()["required"]["sampling"][0]:
        pytest.skip("this ComfyUI has no such sampling")
    return run(ADVANCED, "ModelSamplingDiscrete", given.model, "img_to_img_flow", False), given.clip


def with_lora(given):
    model, generator = given.model.clone(), torch.Generator().manual_seed(0)
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_v.weight"
    assert model.add_patches({key: (torch.randn(64, 768, generator=generator) / 30,)}) == [key]
    return model, given.clip


def with_function_wrapper(given):
    model = given.model.clone()
    model.set_model_unet_function_wrapper(
        lambda apply_model, given: apply_model(given["input"], given["timestep"], **given["c"]).mul(1.5)
    )
    return model, given.clip


def with_wrapper(given):
    import comfy.patcher_extension

    model = given.model.clone()
    kind = comfy.patcher_extension.WrappersMP.APPLY_MODEL
    model.add_wrapper_with_key(kind, "test", lambda executor, *args, **kwargs: executor(*args, **kwargs) * 2)
    return model, given.clip


def with_hooks(given):
    import comfy.hooks

    clip = given.clip.clone()
    clip.patcher.forced_hooks = comfy.hooks.HookGroup()
    return given.model, clip


def compiled(given):
    model = given.model.clone()
    model.add_object_patch("diffusion_model", torch.compile(model.model.diffusion_model))
    return model, given.clip


def of_nunchaku(given):
    kind = type("SVDQW4A4Linear", (torch.nn.Identity,), {"__module__": "nunchaku.models.linear"})
    given.model.model.diffusion_model.out.append(kind())
    return given.model, given.clip


def of_four_bits(given):
    given.model.model.diffusion_model.out[2].weight._layout_cls = "TensorCoreConvRotW4A4Layout"
    return given.model, given.clip


ADVANCED = "nodes_model_advanced"
TRAINS = {
    "nothing": lambda given: (given.model, given.clip),
    "ModelSamplingDiscrete eps": patched(ADVANCED, "ModelSamplingDiscrete", "eps", False),
    "ModelSamplingDiscrete v": patched(ADVANCED, "ModelSamplingDiscrete", "v_prediction", False),
    "ModelSamplingDiscrete v zsnr": patched(ADVANCED, "ModelSamplingDiscrete", "v_prediction", True),
    "ModelSamplingDiscrete x0": patched(ADVANCED, "ModelSamplingDiscrete", "x0", False),
    "ModelSamplingDiscrete lcm": patched(ADVANCED, "ModelSamplingDiscrete", "lcm", False),
    "ModelSamplingContinuousEDM v": patched(ADVANCED, "ModelSamplingContinuousEDM", "v_prediction", 120.0, 0.002),
    "ModelSamplingContinuousEDM edm": patched(ADVANCED, "ModelSamplingContinuousEDM", "edm", 120.0, 0.002),
    "ModelSamplingContinuousEDM eps": patched(ADVANCED, "ModelSamplingContinuousEDM", "eps", 80.0, 0.002),
    "ModelSamplingContinuousV": patched(ADVANCED, "ModelSamplingContinuousV", "v_prediction", 500.0, 0.03),
    "RescaleCFG": patched(ADVANCED, "RescaleCFG", 0.7),
    "SelfAttentionGuidance": patched("nodes_sag", "SelfAttentionGuidance", 0.5, 2.0),
    "PatchModelAddDownscale": patched(
        "nodes_model_downscale", "PatchModelAddDownscale", 1, 2.0, 0.0, 0.5, True, "bilinear", "bilinear"
    ),
    "FreeU": patched("nodes_freelunch", "FreeU", 1.1, 1.2, 0.9, 0.2),
    "FreeU_V2": patched("nodes_freelunch", "FreeU_V2", 1.3, 1.4, 0.9, 0.2),
    "TorchCompileModel": patched("nodes_torch_compile", "TorchCompileModel", "inductor"),
    "LoRA": with_lora,
    "LoraLoaderBypass": with_bypassed_lora,
    "HypernetworkLoader": with_hypernetwork,
    "HypernetworkLoader with dropout": functools.partial(with_hypernetwork, use_dropout=True),
    "function wrapper": with_function_wrapper,
    "wrapper": with_wrapper,
}
# The same gradient as without it: of guidance only, of speed, or of the target that the network's output is held to.
CHANGES_NOTHING = {
    "nothing",
    "ModelSamplingDiscrete eps",
    "ModelSamplingDiscrete v",
    "ModelSamplingDiscrete x0",
    "RescaleCFG",
    "TorchCompileModel",
    "SelfAttentionGuidance",
}
REFUSED = {
    "HyperTile": (patched("nodes_hypertile", "HyperTile", 32, 2, 0, False), "'model': HyperTile changes"),
    "TomePatchModel": (patched("nodes_tomesd", "TomePatchModel", 0.3), "'model': Tome Patch Model changes"),
    "EasyCache": (patched("nodes_easycache", "EasyCacheNode", 0.2, 0.1, 0.9, False), "'model': EasyCache skips"),
    "LazyCache": (patched("nodes_easycache", "LazyCacheNode", 0.2, 0.1, 0.9, False), "'model': LazyCache skips"),
    "compiled by an object patch": (compiled, "'model': 'diffusion_model' was compiled by another node"),
    "ModelSamplingDiscrete img_to_img_flow": (from_a_picture, "'model': its sampling starts from a picture"),
    "nunchaku": (of_nunchaku, "'model': nunchaku's SVDQW4A4Linear has no backward pass"),
    "weights of 4 bits": (of_four_bits, "'model': its weights of 4 bits have no backward pass"),
    "CLIP hooks": (with_hooks, "'clip': it has hooks"),
}


def probe(core, given, model, clip, recompute=False):
    """(error, gradient, slope of the same by finite differences) of two samples with unlike noise levels."""
    tokens = core.host.caption_tokens(clip, CAPTIONS, 1)
    model, clip = core.host.load_for_training(model, clip, "test")
    with core.host.borrowed_model(model, clip, tokens, recompute=recompute) as borrowed:
        live = {"clip_l": relation_of(core, clip)["clip_l"].requires_grad_()}
        with borrowed.recording():
            weighted_error(borrowed, given, live, (0, 1)).backward()
        found = live["clip_l"].grad
        with torch.no_grad():
            step = 0.01 * float(live["clip_l"].norm()) * found / found.norm()
            shifted = [{"clip_l": live["clip_l"] + sign * step} for sign in (1, -1)]
            above, below = (float(weighted_error(borrowed, given, vectors, (0, 1))) for vectors in shifted)
    return found, (above - below) / float(2 * step.norm())


@pytest.fixture(scope="module")
def given(reversion, embeddings):
    return random_models.build("SD 1.x", embeddings)


@pytest.fixture(scope="module")
def plain(core, given):
    return probe(core, given, given.model, given.clip)[0]


@pytest.mark.parametrize("name", TRAINS)
def test_it_trains_right(core, given, plain, name):
    model, clip = TRAINS[name](given)
    core.host.check_pair(model, clip, "ReVersion Train")
    found, slope = probe(core, given, model, clip)
    assert float(found.norm()) == pytest.approx(slope, rel=0.02)
    again, _ = probe(core, given, model, clip, recompute=True)
    torch.testing.assert_close(again, found, rtol=1e-3, atol=1e-4 * float(found.abs().max()))
    same = torch.allclose(found, plain, rtol=1e-3, atol=1e-4 * float(plain.abs().max()))
    assert same == (name in CHANGES_NOTHING)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_before_any_work(core, embeddings, name):
    plug, told = REFUSED[name]
    model, clip = plug(random_models.build("SD 1.x", embeddings))
    with pytest.raises(core.errors.ReVersionError, match=f"ReVersion Train, input {told}"):
        core.host.check_pair(model, clip, "ReVersion Train")


def test_a_latent_format_that_a_node_sets_counts(core, loaded, drawn):
    """As Playground v2.5's, which `ModelSamplingContinuousEDM` brings along."""
    model = run(ADVANCED, "ModelSamplingContinuousEDM", loaded.model, "edm_playground_v2.5", 80.0, 0.002)
    pictures = torch.from_numpy(drawn.fitted(64))[:1]
    with torch.inference_mode():
        scaled, *_ = core.host.scaled_posterior(model, loaded.vae, pictures)
        expected = model.get_model_object("latent_format").process_in(core.host.posterior(loaded.vae, pictures)[0])
    torch.testing.assert_close(scaled, expected)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float16])
def test_weights_that_the_host_casts_at_each_use(core, embeddings, dtype):
    given = random_models.build("SD 1.x", embeddings, dtype=dtype, compute=torch.float32)
    found, slope = probe(core, given, given.model, given.clip)
    assert float(found.norm()) == pytest.approx(slope, rel=0.02)
    again, _ = probe(core, given, given.model, given.clip, recompute=True)
    torch.testing.assert_close(again, found, rtol=1e-3, atol=1e-4 * float(found.abs().max()))
    assert next(given.model.model.diffusion_model.parameters()).dtype == dtype
