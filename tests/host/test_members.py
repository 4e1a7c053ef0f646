"""Every family that a relation can be learned with, on a small member with the host's own classes."""

import dataclasses
from types import SimpleNamespace

import pytest
import random_model_configs
import random_models
import torch
from safetensors.torch import save_file
from training import CAPTIONS, digest, draws, learn, relation_of, weighted_error


def names(*left_out):
    return [name for name in random_model_configs.MEMBERS if name not in left_out]


@pytest.fixture(scope="module")
def built(reversion, embeddings):
    """Name -> the member. The last one alone is kept, since they are many."""
    last = {}

    def get(name):
        if not random_models.exists(name):
            pytest.skip(f"ComfyUI has {name} since {random_model_configs.MEMBERS[name].since}")
        if name not in last:
            last.clear()
            last[name] = random_models.build(name, embeddings)
        return last[name]

    return get


def gradient(core, given, relation, recompute):
    tokens = core.host.caption_tokens(given.clip, CAPTIONS, 1)
    model, clip = core.host.load_for_training(given.model, given.clip, "test")
    with core.host.borrowed_model(model, clip, tokens, recompute=recompute) as borrowed:
        live = {key: rows.clone().requires_grad_() for key, rows in relation.items()}
        with borrowed.recording():
            weighted_error(borrowed, given, live).backward()
        slopes = {}
        with torch.no_grad():
            for key, rows in live.items():
                direction = rows.grad / rows.grad.norm()
                size = float(rows.norm())

                def slope(step, key=key, rows=rows, direction=direction):
                    above, below = (
                        float(weighted_error(borrowed, given, {**live, key: rows + sign * step * direction}))
                        for sign in (1, -1)
                    )
                    return (above - below) / (2 * step)

                # Richardson's extrapolation: what is bent at this distance counts at the fourth order only.
                slopes[key] = (4 * slope(0.002 * size) - slope(0.004 * size)) / 3
    return {key: rows.grad for key, rows in live.items()}, slopes


@pytest.mark.parametrize("name", names("SD 2.x", "SDXL"))
def test_the_gradient_of_every_encoder_agrees_with_finite_differences_recomputed_or_not(core, built, name):
    given = built(name)
    before = digest(given.model.model, given.clip.cond_stage_model)
    relation = relation_of(core, given.clip)
    plain, slopes = gradient(core, given, relation, recompute=False)
    again, _ = gradient(core, given, relation, recompute=True)
    for key, found in plain.items():
        assert float(found.norm()) == pytest.approx(slopes[key], rel=0.03), key
        assert float((again[key] - found).norm() / found.norm()) < 1e-4, key
    assert digest(given.model.model, given.clip.cond_stage_model) == before


@pytest.mark.parametrize("name", names("SD 1.x", "SD 2.x", "SDXL", "SD 3.x", "SD 3.x without T5", "Flux.1 schnell"))
def test_weights_of_8_bits_are_recomputed_without_being_asked_and_give_right_gradients(core, embeddings, name):
    if not random_models.exists(name):
        pytest.skip(f"ComfyUI has {name} since {random_model_configs.MEMBERS[name].since}")
    from reversion_pack.reversion_core.host.recompute import are_recomputed, blocks_of

    given = random_models.build(name, embeddings, dtype=torch.float8_e4m3fn, compute=torch.float32)
    before, network = digest(given.model.model), given.model.model.diffusion_model
    with core.host.borrowed_model(given.model, given.clip, core.host.caption_tokens(given.clip, CAPTIONS, 1)):
        assert all(are_recomputed([block]) for block in blocks_of(network))
    found, slopes = gradient(core, given, relation_of(core, given.clip), recompute=False)
    for key, of_one in found.items():
        assert float(of_one.norm()) == pytest.approx(slopes[key], rel=0.03), key
    assert digest(given.model.model) == before and not are_recomputed(blocks_of(network))


@pytest.mark.parametrize("name", names())
def test_features_are_those_of_the_host_s_own_prompt(core, built, name):
    assert_features_of_the_host(core, built(name))


def test_features_of_a_clip_that_reads_more_than_the_other_are_the_host_s(core, embeddings, monkeypatch):
    member = random_model_configs.MEMBERS["SDXL"]
    sizes = {**member.sizes, "clip_l_model_config": {"num_hidden_layers": 3, "max_position_embeddings": 248}}
    long = dataclasses.replace(member, sizes=sizes, windows={"clip_l_max_length": 248})
    monkeypatch.setitem(random_model_configs.MEMBERS, "SDXL with LongCLIP", long)
    assert_features_of_the_host(core, random_models.build("SDXL with LongCLIP", embeddings))


def assert_features_of_the_host(core, given):
    relation = relation_of(core, given.clip, vectors=2)
    tokens = core.host.caption_tokens(given.clip, CAPTIONS, 2)
    with core.host.borrowed_model(given.model, given.clip, tokens) as borrowed, torch.no_grad():
        ours = borrowed.encode([0, 1], relation)
    applied = core.host.with_relation(given.clip, "<R>", relation)
    for features, caption in zip(ours, CAPTIONS, strict=True):
        with torch.inference_mode():
            native = applied.encode_from_tokens(applied.tokenize(caption.replace("{}", "<R>")), return_dict=True)
            word = given.clip.encode_from_tokens(given.clip.tokenize(caption.replace("{}", "and")), return_dict=True)
        torch.testing.assert_close(features["cross_attn"], native["cond"], rtol=1e-4, atol=1e-5)
        assert features.keys() - {"cross_attn"} >= native.keys() - {"cond"}
        assert word["cond"].shape[1:] != native["cond"].shape[1:] or not torch.equal(word["cond"], native["cond"])


@pytest.mark.parametrize("name", names())
def test_a_vector_equal_to_a_word_is_that_word(core, built, name):
    """Which needs the space before the word, the scale of the table, and the template as it was."""
    given = built(name)
    rows = {key: core.host.word_rows(given.clip, key, ["above"]) for key in core.host.encoder_keys(given.clip)}
    applied = core.host.with_relation(given.clip, "<R>", rows)
    with torch.inference_mode():
        ours = applied.encode_from_tokens(applied.tokenize("cat <R> stone"), return_dict=True)
        word = given.clip.encode_from_tokens(given.clip.tokenize("cat above stone"), return_dict=True)
        other = given.clip.encode_from_tokens(given.clip.tokenize("cat inside stone"), return_dict=True)
    difference = (ours["cond"] - word["cond"]).norm() / (other["cond"] - word["cond"]).norm()
    assert difference < 0.05


@pytest.mark.parametrize("name", names())
def test_the_placeholder_is_the_host_s_embedding_where_that_works(core, built, name, embeddings):
    given = built(name)
    family = core.families.of_config(random_model_configs.MEMBERS[name].kind)
    if not family.embedding_syntax_works:
        pytest.skip(f"the host's embedding: does not work in {name}")
    vectors = relation_of(core, given.clip, vectors=2)
    save_file(vectors, embeddings / "member.safetensors")
    applied = core.host.with_relation(given.clip, "<R>", vectors)
    with torch.inference_mode():
        for text in ("cat {} stone, on a (red:1.2) table", "{}", "a ({}:1.3) b"):
            ours = applied.encode_from_tokens(applied.tokenize(text.format("<R>")), return_dict=True)
            host = given.clip.encode_from_tokens(
                given.clip.tokenize(text.format("embedding:member").replace("(e", "( e").replace("r:1.3", "r :1.3")),
                return_dict=True,
            )
            assert torch.equal(ours["cond"], host["cond"]), text


@pytest.mark.parametrize("name", names("SDXL"))
def test_samples_go_through_the_network_together_only_where_that_changes_nothing(core, built, name):
    given = built(name)
    tokens = core.host.caption_tokens(given.clip, CAPTIONS, 1)
    relation = relation_of(core, given.clip)
    with core.host.borrowed_model(given.model, given.clip, tokens) as borrowed, torch.no_grad():
        features = borrowed.encode([0, 1, 0], relation)
        x0, noise = draws(given, 3)
        timesteps = torch.tensor([borrowed.timesteps // 2, 5, borrowed.timesteps - 1])
        together = borrowed.prediction_error(x0, noise, timesteps, features)
        singles = [
            borrowed.prediction_error(x0[i : i + 1], noise[i : i + 1], timesteps[i : i + 1], features[i : i + 1])
            for i in range(3)
        ]
    torch.testing.assert_close(together, torch.cat(singles), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", names())
def test_the_table_of_families_says_what_the_host_has(core, built, name):
    given = built(name)
    family, native = core.host.family_of(given.model, "ReVersion Train")
    assert name.startswith(family) and native == core.families.named(family).native_size
    assert core.host.check_pair(given.model, given.clip, "ReVersion Train") == (family, native)
    assert core.families.named(family) in core.families.of_encoders(core.host.encoder_keys(given.clip))
    for tokenizer in vars(given.clip.tokenizer).values():
        if getattr(tokenizer, "embedding_key", None) in core.host.encoder_keys(given.clip):
            assert tokenizer.embedding_size == core.families.WIDTHS[tokenizer.embedding_key]


def test_learning_rates_are_in_units_of_the_start_word(core, embeddings):
    """The steps of an optimizer are absolute, and T5's table has larger numbers than CLIP's."""
    given = random_models.build("Flux.1", embeddings)
    size = float(core.host.word_rows(given.clip, "t5xxl", ["and"]).square().mean().sqrt())
    rates = {key: core.host.learning_rate_unit(given.clip, key, "and") for key in core.host.encoder_keys(given.clip)}
    assert rates["clip_l"] == 1.0 and rates["t5xxl"] == pytest.approx(size / (0.4 / 768**0.5), rel=0.01)


def test_a_word_that_a_vocabulary_lacks_is_the_mean_of_its_tokens(core, embeddings):
    given = random_models.build("Chroma", embeddings)
    tokens = core.host.token_ids(given.clip, "t5xxl", "atop")
    table = core.host.token_table(given.clip, "t5xxl")
    assert len(tokens) > 1
    torch.testing.assert_close(core.host.word_rows(given.clip, "t5xxl", ["atop"])[0], table[tokens].mean(0))


@pytest.fixture(scope="module")
def taesd(reversion):
    """A first stage of 16 channels with random weights."""
    import comfy.sd
    import comfy.taesd.taesd

    network = comfy.taesd.taesd.TAESD(latent_channels=16)
    with torch.inference_mode():
        random_models.randomise(network, torch.Generator().manual_seed(0))
        return comfy.sd.VAE(sd=network.state_dict())


class Pooling:
    """The outward form of the host's VAE: latents are the colours of squares of pixels."""

    first_stage_model, patcher = torch.nn.Identity(), None

    def __init__(self, shape):
        """shape: of one picture's latents."""
        self.shape, self.factor = shape, 16 if shape[0] == 128 else 8

    def spacial_compression_encode(self):
        return self.factor

    def encode(self, pixels):
        small = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), self.factor)
        latents = small.repeat(1, self.shape[0] // 3 + 1, 1, 1)[:, : self.shape[0]]
        return latents.unflatten(1, self.shape[:-2])

    def decode(self, latents):
        colours = latents.flatten(1, -3)[:, :3]
        return torch.nn.functional.interpolate(colours, scale_factor=self.factor).movedim(1, -1)


@pytest.mark.parametrize("name", names("SD 1.x", "SD 2.x", "SDXL"))  # which test_families.py trains
def test_a_whole_training(core, built, drawn, tmp_path, name):
    given = built(name)
    given.vae, size = Pooling(given.latents), max(64, 8 * given.latents[-1] if name == "PixArt" else 0)
    before = digest(given.model.model, given.clip.cond_stage_model)
    keep = {"preview_every": 2, "prompt": "red circle <R> blue square"}
    exemplars = dataclasses.replace(drawn, size=size)
    learned = learn(core, given, exemplars, tmp_path, keep=keep, learning_rate=0.05)
    assert digest(given.model.model, given.clip.cond_stage_model) == before
    assert name.startswith(learned.relation.family) and learned.previews[0].shape == (size, size, 3)
    for key, vectors in learned.relation.vectors.items():
        assert float((vectors - core.host.word_rows(given.clip, key, ["and"])).norm()) > 0.01


@pytest.mark.parametrize("name", ["SD 3.x with CLIP-L", "Flux.1", "Chroma"])
def test_with_little_memory_it_learns_the_same(core, embeddings, drawn, taesd, tmp_path, name):
    given = random_models.build(name, embeddings, taesd)
    learned = learn(core, given, drawn, tmp_path, learning_rate=0.05)
    again = learn(core, given, drawn, tmp_path / "again", keep={"low_memory": True}, learning_rate=0.05)
    for key, vectors in learned.relation.vectors.items():
        torch.testing.assert_close(again.relation.vectors[key], vectors, rtol=1e-2, atol=1e-3 * float(vectors.norm()))


@pytest.mark.parametrize(("name", "size", "smallest"), [("PixArt", 256, 272), ("Flux.1", 8, 16)])
def test_pictures_too_small_for_a_family_are_refused(core, built, drawn, tmp_path, name, size, smallest):
    given = built(name)
    given.vae = Pooling(given.latents)
    said = f"{name} learns from pictures of at least {smallest} .* are of {size}; set"
    with pytest.raises(core.errors.ReVersionError, match=said):
        learn(core, given, dataclasses.replace(drawn, size=size), tmp_path)


@pytest.fixture(scope="module")
def canny(reversion, embeddings):
    """A Flux.1 whose network takes a picture beside the noise."""
    member = random_model_configs.MEMBERS["Flux.1"]
    of_canny = dataclasses.replace(member, network={**member.network, "in_channels": 32})
    random_model_configs.MEMBERS["canny"] = of_canny
    try:
        return random_models.build("canny", embeddings)
    finally:
        del random_model_configs.MEMBERS["canny"]


def test_a_flux_that_a_picture_steers_is_refused(core, canny):
    with pytest.raises(core.errors.ReVersionError, match="input 'model': a model that a picture steers"):
        core.host.check_pair(canny.model, canny.clip, "ReVersion Train")


def test_a_lora_that_makes_flux_take_a_picture_is_refused(core, canny, drawn, taesd, tmp_path):
    """Its checkpoint is an ordinary one: only the loaded weights, with the LoRA on them, are wider."""
    config = canny.model.model.model_config
    config.unet_config["in_channels"], canny.vae = 16, taesd
    try:
        with pytest.raises(
            core.errors.ReVersionError, match="it takes a picture beside the noise, .* take out the LoRA"
        ):
            learn(core, canny, drawn, tmp_path)
    finally:
        config.unet_config["in_channels"] = 32


@pytest.mark.parametrize("name", names("SD 1.x", "SD 2.x", "SDXL", "PixArt"))
def test_the_usual_alpha_gives_the_noise_of_the_paper(core, reversion, name):
    """0.676 in the mean, as a share of a picture's place between clean and noise, is SD 1.x at the published 0.5."""
    import comfy.supported_models

    if not random_models.exists(name):
        pytest.skip(f"ComfyUI has {name} since {random_model_configs.MEMBERS[name].since}")
    member = random_model_configs.MEMBERS[name]
    config = getattr(comfy.supported_models, member.kind)({**member.network, "disable_unet_model_creation": True})
    base = config.get_model({}, device=torch.device("cpu"))
    alpha, mean = noise_of(core, base.model_sampling)
    # No alpha takes away the noise that a family's own shift brings, as of Lumina 2 and Klein.
    assert mean == pytest.approx(0.676, abs=0.005) or (alpha == 0 and mean > 0.676)


def noise_of(core, sampling):
    """(the usual alpha of a model with this sampling, the mean noise that it trains at)."""
    sigmas = sampling.sigmas.double()
    alpha = core.host.usual_alpha(SimpleNamespace(get_model_object=lambda name: sampling))
    focal = core.focal.Focal(alpha)
    return alpha, float((core.focal.distribution(len(sigmas), focal) * sigmas).sum())


@pytest.mark.parametrize("shift", [1.0, 1.7, 3.0])
def test_the_usual_alpha_is_that_of_the_shift_another_node_set(core, built, shift):
    from comfy_extras.nodes_model_advanced import ModelSamplingAuraFlow

    (model,) = ModelSamplingAuraFlow().patch_aura(built("AuraFlow").model, shift)
    _, mean = noise_of(core, model.get_model_object("model_sampling"))
    assert mean == pytest.approx(0.676, abs=0.005)


def test_models_of_noise_levels_beyond_a_flow_s_have_the_published_alpha(core, built):
    assert core.host.usual_alpha(built("SDXL").model) == core.host.usual_alpha(built("PixArt").model) == 0.5


def checked_as(core, given, exemplars):
    """(what the checks before a training say, its inputs)."""
    settings = core.settings.TrainSettings()
    inputs = core.inputs.TrainingInputs(exemplars, settings, core.steering.Steering(), core.focal.Focal())
    return core.run.check(given.model, given.clip, Pooling(given.latents), inputs, "Train"), inputs


def test_lumina_s_captions_and_previews_stand_behind_its_system_prompt(core, built, drawn, monkeypatch):
    from reversion_pack.reversion_core import families

    lumina = families.named("Lumina 2")
    whole = families.whole_prompt(lumina, "cat <R> stone")
    assert whole.startswith("You are an assistant") and whole.endswith("<Prompt Start> cat <R> stone")
    assert families.whole_prompt(lumina, whole) == whole
    assert families.whole_prompt(families.named("Flux.1"), "cat") == "cat"
    given, asked = built("Lumina 2"), []
    caption_tokens = core.host.caption_tokens

    def tokens_of(clip, texts, *more):
        asked.extend(texts)
        return caption_tokens(clip, texts, *more)

    monkeypatch.setattr(core.host, "caption_tokens", tokens_of)
    checked, inputs = checked_as(core, given, drawn)
    assert asked == [families.whole_prompt(lumina, caption) for caption in inputs.templates]
    assert any("system prompt 'superior'" in note for note in checked.notes)


def test_a_caption_that_clip_reads_only_the_start_of_is_told(core, built, drawn):
    given, words = built("Flux.1"), " ".join(["red"] * 90)
    captions = ((f"{words} {{}} stone",), *drawn.captions[1:])
    exemplars = dataclasses.replace(drawn, captions=captions)
    checked, _ = checked_as(core, given, exemplars)
    assert [note for note in checked.notes if "reads the start" in note] == [
        f"clip_l reads the start of '{captions[0][0][:60]}...' only, and not as far as its {{}}"
    ]


def test_a_large_text_encoder_on_the_cpu_is_told(core, built, drawn, monkeypatch):
    given = built("Flux.1")

    def told():
        return any("the text encoder is on the CPU" in note for note in checked_as(core, given, drawn)[0].notes)

    assert not told()
    monkeypatch.setattr(given.model, "load_device", torch.device("cuda"))
    assert told()


def test_of_t5_s_bias_one_copy_is_kept_for_all_layers(core, built):
    given, kept = built("Flux.1"), set()
    tokens = core.host.caption_tokens(given.clip, CAPTIONS[:1], 1)
    relation = {key: rows.requires_grad_() for key, rows in relation_of(core, given.clip).items()}

    def count(tensor):
        if tensor.ndim == 4 and tensor.shape[-1] == tensor.shape[-2] == 256:
            kept.add(tensor.untyped_storage()._cdata)
        return tensor

    with core.host.borrowed_model(given.model, given.clip, tokens) as borrowed, borrowed.recording():
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            features = borrowed.encode([0], relation)
        features[0]["cross_attn"].sum().backward()
    assert not kept and relation["t5xxl"].grad.norm() > 0


def test_pixart_attends_in_a_way_that_has_a_gradient_while_it_trains(reversion):
    import comfy.ldm.pixart.blocks as blocks
    from comfy.ldm.modules.attention import attention_pytorch
    from reversion_pack.reversion_core.host.gradients import training_mode

    before = blocks.optimized_attention
    blocks.optimized_attention = None
    try:
        with training_mode():
            assert blocks.optimized_attention is attention_pytorch
        assert blocks.optimized_attention is None
    finally:
        blocks.optimized_attention = before


def test_a_relation_of_another_family_with_the_same_encoder_is_told_of(core, built):
    given = built("PixArt")
    vectors = {"t5xxl": torch.ones(1, 64)}
    for family, told in (("Chroma", False), ("PixArt", False), ("Z-Image", True), ("", False)):
        relation = core.relation.Relation(vectors, {"reversion.base_family": family} if family else {})
        said = core.host.check_fits(relation, given.clip, "ReVersion Apply Relation")
        assert ("was learned with Z-Image and this CLIP is of Chroma or PixArt" in said) == told and bool(said) == told


def test_the_file_names_its_family(core, embeddings, tmp_path):
    given = random_models.build("SD 3.x with CLIP-L", embeddings)
    about = core.relation.metadata_for("carved", "SD 3.x", "2026-01-01", "<R>", {"base_family": "SD 3.x"})
    core.relation.save(core.relation.Relation(relation_of(core, given.clip), about), tmp_path / "r.safetensors")
    loaded = core.relation.load(tmp_path / "r.safetensors")
    assert loaded.family == "SD 3.x" and loaded.metadata["modelspec.architecture"].startswith("stable-diffusion-v3")
    core.host.check_fits(loaded, given.clip, "ReVersion Apply Relation")
    assert core.relation.Relation(loaded.vectors).family == "SD 1.x"
    assert core.relation.Relation({"t5xxl": torch.ones(1, 4096)}).family == "unknown"
