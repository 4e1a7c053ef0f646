"""The families and forms of models that a relation can be learned with, and those that are refused."""

import importlib
from types import SimpleNamespace

import pytest
import torch
from training import digest, learn, with_prediction

FAMILIES = ("SD 2.x", "SDXL")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_learned_relation_loads_natively_in_the_host(core, of_family, drawn, tmp_path, embeddings, family):
    given = of_family(family)
    before = digest(given.model.model, given.clip.cond_stage_model)
    learned = learn(core, given, drawn, tmp_path, vectors=2, learning_rate=0.01).relation
    assert learned.family == family and digest(given.model.model, given.clip.cond_stage_model) == before
    for key, vectors in learned.vectors.items():
        start = core.host.word_rows(given.clip, key, ["and"])
        assert vectors.shape == (2, start.shape[1]) and (vectors - start).norm(dim=1).min() > 1e-3

    name = f"family-{len(learned.vectors)}-{vectors.shape[1]}"
    core.relation.save(learned, embeddings / f"{name}.safetensors")
    applied = core.host.with_relation(given.clip, "<R>", learned.vectors)
    with torch.inference_mode():
        ours, native = (
            clip.encode_from_tokens(clip.tokenize(f"cat {word} stone"), return_pooled=True)
            for clip, word in ((applied, "<R>"), (given.clip, f"embedding:{name}"))
        )
        plain = given.clip.encode_from_tokens(given.clip.tokenize("cat and stone"))
    assert torch.equal(ours[0], native[0]) and torch.equal(ours[1], native[1]) and not torch.equal(ours[0], plain)


def test_the_size_to_learn_at_is_the_family_s(core, of_family, loaded):
    sizes = {
        (name, prediction): core.host.family_of(with_prediction(of_family(name).model, prediction), "ReVersion Train")
        for name, prediction in (("SD 1.x", "eps"), ("SD 2.x", "eps"), ("SD 2.x", "v"), ("SDXL", "eps"))
    }
    assert [size for _, size in sizes.values()] == [512, 512, 768, 1024]
    assert [name for name, _ in sizes] == [name for name, _ in sizes.values()]


def test_a_relation_of_another_family_is_refused(core, of_family):
    relation = core.relation.Relation({"clip_l": torch.ones(1, 768)})
    with pytest.raises(
        core.errors.ReVersionError, match=r"it is for SD 1\.x \(clip_l\) and this CLIP takes clip_l, clip_g"
    ):
        core.host.check_fits(relation, of_family("SDXL").clip, "ReVersion Apply Relation")


def test_model_and_clip_of_different_families_are_refused(core, of_family):
    with pytest.raises(core.errors.ReVersionError, match=r"input 'clip': it is of SDXL and the model of SD 2\.x"):
        core.host.check_pair(of_family("SD 2.x").model, of_family("SDXL").clip, "ReVersion Train")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("SDXLRefiner", "since it only refines pictures that another model began"),
        ("SD15_instructpix2pix", "since it makes a picture from another picture"),
        ("FluxInpaint", "since it makes a picture from another picture"),
        ("ChromaRadiance", "since it works on pixels without a VAE"),
        ("HiDream", "since its four text encoders do not fit"),
        ("HunyuanVideo", "since it makes video"),
        ("HunyuanVideoI2V", "since it makes video"),
        ("HunyuanVideoSkyreelsI2V", "since it makes video"),
        ("HunyuanVideo15_SR_Distilled", "since it makes video"),
        ("MiniMaxH3", "since it makes video"),
        ("PixelDiTT2I", "since it works on pixels"),
        ("PiD", "since it works on pixels"),
        ("CosmosT2IPredict2", "is not supported; load a checkpoint of SD 1.x, "),
        ("WAN21_T2V", "since it makes video"),
        ("StableAudio", "since it makes sound"),
        ("Stable_Cascade_C", "; load a checkpoint of SD 1.x, "),
    ],
)
def test_other_families_are_refused_by_name(core, reversion, kind, reason):
    import comfy.supported_models

    if not hasattr(comfy.supported_models, kind):
        pytest.skip("this ComfyUI has none")
    config = getattr(comfy.supported_models, kind)({"disable_unet_model_creation": True})
    model = SimpleNamespace(model=SimpleNamespace(model_config=config))
    message = f"ReVersion Train, input 'model': the model family {kind} is not supported"
    with pytest.raises(core.errors.ReVersionError, match=message) as told:
        core.host.family_of(model, "ReVersion Train")
    assert reason in str(told.value)


@pytest.mark.parametrize("marker", ["__index_timestep_zero__", "time_text_embed.addition_t_embedding.weight"])
def test_a_qwen_that_edits_pictures_is_refused(core, marker):
    """Told by what the host's own detection finds in its file."""
    import comfy.model_detection

    names = ("txt_norm.weight", "img_in.weight", "proj_out.weight", "transformer_blocks.0.attn.to_q.weight", marker)
    found = comfy.model_detection.detect_unet_config({name: torch.zeros(64, 64) for name in names}, "")
    if not {"default_ref_method", "use_additional_t_cond"} & found.keys():
        pytest.skip("this ComfyUI does not tell them apart")
    config = type("QwenImage", (), {"unet_config": found})()
    model = SimpleNamespace(model=SimpleNamespace(model_config=config, concat_keys=()))
    with pytest.raises(core.errors.ReVersionError, match="input 'model': a model that edits pictures cannot learn"):
        core.host.family_of(model, "ReVersion Train")


def test_kolors_of_another_pack_is_refused_with_its_reason(core):
    config = type("Kolors", (), {})()
    with pytest.raises(
        core.errors.ReVersionError, match="Kolors is not supported, since ComfyUI does not have its text"
    ):
        core.host.family_of(SimpleNamespace(model=SimpleNamespace(model_config=config)), "ReVersion Train")


@pytest.mark.parametrize(
    ("module", "kind", "told"),
    [
        ("hidream", "HiDreamTEModel", "the text encoder HiDreamTEModel is not supported"),
        ("hunyuan_video", "HunyuanVideoClipModel", "the text encoder HunyuanVideoClipModel is not supported"),
        (None, None, "the checkpoint has no text encoder"),
    ],
)
def test_text_encoders_of_other_families_are_refused_by_name(core, loaded, module, kind, told):
    import comfy.sd

    clip = None
    if module:
        # The host's own class, without its weights.
        encoder = getattr(importlib.import_module(f"comfy.text_encoders.{module}"), kind)
        clip = comfy.sd.CLIP(no_init=True)
        clip.cond_stage_model, clip.tokenizer = encoder.__new__(encoder), loaded.clip.tokenizer
        torch.nn.Module.__init__(clip.cond_stage_model)
    with pytest.raises(core.errors.ReVersionError, match=f"ReVersion Train, input 'clip': {told}; "):
        core.host.check_clip(clip, "ReVersion Train")


def test_flux_2_dev_is_refused_with_its_reason(core):
    import comfy.sd
    from comfy import sd1_clip
    from comfy.text_encoders import flux

    def untaught(kind):
        made = kind.__new__(kind)
        torch.nn.Module.__init__(made)
        return made

    clip = comfy.sd.CLIP(no_init=True)
    clip.cond_stage_model = untaught(flux.Flux2TEModel)
    clip.cond_stage_model.mistral3_24b = untaught(flux.Mistral3_24BModel)
    tokenizer = sd1_clip.SDTokenizer.__new__(sd1_clip.SDTokenizer)
    tokenizer.embedding_key = "mistral3_24b"
    clip.tokenizer = SimpleNamespace(mistral3_24b=tokenizer)
    with pytest.raises(core.errors.ReVersionError, match="of Flux.2 dev is too large to learn through"):
        core.host.check_clip(clip, "ReVersion Train")


def first_loss(core, given, drawn, tmp_path, **settings):
    return learn(core, given, drawn, tmp_path, steps=1, **settings).history[0]["denoise"]


@pytest.fixture
def with_model(loaded):
    """The miniature with its model or CLIP changed by the host's own means."""

    def get(model=None, clip=None):
        return type(loaded)(model=model or loaded.model, clip=clip or loaded.clip, vae=loaded.vae)

    return get


def test_a_lora_counts_and_the_weights_come_back(core, loaded, drawn, tmp_path, with_model):
    import comfy.model_management
    import comfy.weight_adapter

    before = digest(loaded.model.model)
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_v.weight"
    weight = loaded.model.model.state_dict()[key]
    up, down = (torch.randn(shape, generator=torch.Generator().manual_seed(5)) for shape in ((320, 4), (4, 768)))
    model = loaded.model.clone()
    adapter = comfy.weight_adapter.LoRAAdapter({key}, (up, down, 4.0, None, None, None))
    assert model.add_patches({key: adapter}, 0.02) == [key]
    plain = first_loss(core, loaded, drawn, tmp_path / "plain")
    patched = first_loss(core, with_model(model), drawn, tmp_path / "patched")
    merged = loaded.model.clone()
    merged.add_patches({key: (0.02 * up @ down,)})
    assert patched == pytest.approx(first_loss(core, with_model(merged), drawn, tmp_path / "merged"), rel=1e-5)
    assert abs(patched - plain) > 1e-4 * plain
    comfy.model_management.load_models_gpu([loaded.model], force_full_load=True)
    assert digest(loaded.model.model) == before and torch.equal(loaded.model.model.state_dict()[key], weight)


def test_features_with_clip_skip_are_the_host_s(core, loaded, drawn):
    clip = loaded.clip.clone()
    clip.clip_layer(-12)
    vectors = {"clip_l": torch.randn(1, 768, generator=torch.Generator().manual_seed(0)) * 0.02}
    tokens = core.host.caption_tokens(clip, ["red circle {} blue square"], 1)
    with core.host.borrowed_model(loaded.model, clip, tokens) as borrowed:
        ours = borrowed.encode([0], vectors)[0]["cross_attn"].detach()
    applied = core.host.with_relation(clip, "<R>", vectors)
    with torch.inference_mode():
        native = applied.encode_from_tokens(applied.tokenize("red circle <R> blue square"))
    assert torch.allclose(ours, native, atol=1e-5)


def test_an_inpainting_checkpoint_is_refused(core, reversion):
    import comfy.model_patcher
    import comfy.supported_models

    config = comfy.supported_models.SD15({"disable_unet_model_creation": True, "in_channels": 9})
    model = comfy.model_patcher.ModelPatcher(config.get_model({}), torch.device("cpu"), torch.device("cpu"))
    with pytest.raises(core.errors.ReVersionError, match="input 'model': an inpainting model cannot learn a relation"):
        core.host.family_of(model, "ReVersion Train")
