"""Embedding files of other programs: read, or told what they are; small files never take much memory."""

import io
import json
import os
import pickle
import resource
import struct
import zipfile

import pytest
import torch
from safetensors.torch import save as safetensors_bytes

from reversion_core.errors import ReVersionError
from reversion_core.store import relation


def vector(width=768, count=1, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


ONE, TWO, LARGE, WIDE, T5 = vector(), vector(count=2), vector(1280), vector(1024), vector(4096)
SDXL, TWO_L = {"clip_l": ONE, "clip_g": LARGE}, {"clip_l": TWO}


def safe(tensors, metadata=None):
    return safetensors_bytes({key: tensor.clone() for key, tensor in tensors.items()}, metadata)


def saved(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def old(content):
    """A file of torch before 1.6."""
    return saved(content, _use_new_zipfile_serialization=False)


def old_parameter_dict():
    """As torch 1.12 left it: without the list of keys that later ones look for."""
    made = torch.nn.ParameterDict({"*": torch.nn.Parameter(TWO)})
    made.__dict__.pop("_keys", None)
    return made


TABLE = vector(count=1000, seed=3)
READ = {
    "comfyui.safetensors": (safe(SDXL), SDXL),
    "half.safetensors": (safe({"emb_params": TWO.half()}), {"clip_l": TWO.half().float()}),
    "bf16.pt": (saved({"<R>": TWO.bfloat16()}), {"clip_l": TWO.bfloat16().float()}),
    "sd2.bin": (saved({"<R>": WIDE[0].clone()}), {"clip_h": WIDE}),
    "webui.pt": (saved({"string_to_token": {"*": 265}, "string_to_param": {"*": TWO}, "step": 9}), TWO_L),
    "old webui.pt": (saved({"string_to_token": torch.tensor(9), "string_to_param": old_parameter_dict()}), TWO_L),
    "oldest webui.pt": (old({"string_to_token": {"*": 265}, "string_to_param": {"*": TWO}}), TWO_L),
    "a parameter.pt": (saved({"<R>": torch.nn.Parameter(TWO)}), TWO_L),
    "list.pt": (saved([{"a": ONE}, {"a": LARGE}]), SDXL),
    "diffusers.safetensors": (safe({"<cat-toy>": ONE[0].clone()}), {"clip_l": ONE}),
    "numbered.safetensors": (safe({"<r>_1": TWO[1].clone(), "<r>": TWO[0].clone()}), TWO_L),
    "cog.pti": (safe({"text_encoders_0": ONE, "text_encoders_1": LARGE}), SDXL),
    "kohya.safetensors": (safe({"clip_g": LARGE, "clip_l": ONE}, {"ss_tag_frequency": "{" * 10}), SDXL),
    "onetrainer.safetensors": (safe({"emb_params": TWO, "emb_params_out": TWO + 1}), TWO_L),
    "onetrainer xl.safetensors": (safe({**SDXL, "clip_l_out": ONE, "clip_g_out": LARGE}), SDXL),
    "bundle.safetensors": (
        safe({"lora_unet_x.lora_up": TWO, "bundle_emb.r.clip_l": ONE, "bundle_emb.r.clip_g": LARGE}),
        SDXL,
    ),
    "onetrainer flux.safetensors": (
        safe({"clip_l": ONE, "t5": T5, "clip_l_out": ONE, "t5_out": T5}),
        {"clip_l": ONE, "t5xxl": T5},
    ),
    "bundle of flux.safetensors": (
        safe({"lora_unet_x.lora_up": TWO, "bundle_emb.r.clip_l": ONE, "bundle_emb.r.t5": T5}),
        {"clip_l": ONE, "t5xxl": T5},
    ),
    "bundle of kohya.safetensors": (safe({"bundle_emb.r.string_to_param.*": TWO}), TWO_L),
    "a view of the whole table.bin": (saved({"<R>": TABLE[7]}), {"clip_l": TABLE[7:8]}),
    "the same before torch 1.6.bin": (old({"<R>": TABLE[7]}), {"clip_l": TABLE[7:8]}),
    "with its steps.pt": (saved({"<R>": ONE, "global_step": torch.ones(1), "step": torch.ones(())}), {"clip_l": ONE}),
    "a tensor alone.pt": (saved(TWO), TWO_L),
    "a parameter alone.bin": (saved(torch.nn.Parameter(ONE[0].clone())), {"clip_l": ONE}),
    "T5 alone.safetensors": (safe({"emb_params": T5}), {"t5xxl": T5}),
    "T5 as a word.bin": (saved({"<R>": T5[0]}), {"t5xxl": T5}),
    "a word like a LoRA's.safetensors": (safe({"<my_lora_style>": ONE[0].clone()}), {"clip_l": ONE}),
    "really safetensors.pt": (safe(TWO_L), TWO_L),
    "really a pickle.safetensors": (saved({"<R>": TWO}), TWO_L),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_files_of_other_programs(tmp_path, name):
    data, expected = READ[name]
    (tmp_path / name).write_bytes(data)
    loaded = relation.load(tmp_path / name)
    assert loaded.vectors.keys() == expected.keys()
    for key, rows in expected.items():
        found = loaded.vectors[key]
        assert torch.equal(found, rows) and found.is_contiguous()
        assert found.untyped_storage().nbytes() == 4 * found.numel()  # nothing of a table stays in memory
    assert bool(loaded.notes) == ("onetrainer" in name or name in ("bundle.safetensors", "bundle of flux.safetensors"))
    assert all(note.startswith("not used: ") for note in loaded.notes)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("learned_embeds", "learned_embeds_2"),
        ("learned_embeds-steps-500", "learned_embeds_2-steps-500"),
        ("cat_clip_l", "cat_clip_g"),
        ("cat-te1", "cat-te2"),
        ("cat_l", "cat_g"),
        ("Cat-L", "cat-G"),
        ("CAT_L", "CAT_G"),
    ],
)
def test_sdxl_in_two_files_is_read_from_either(tmp_path, first, second):
    for name, rows in ((first, ONE), (second, LARGE)):
        (tmp_path / f"{name}.safetensors").write_bytes(safe({"<r>": rows[0].clone()}))
    for name, other in ((first, second), (second, first)):
        loaded = relation.load(tmp_path / f"{name}.safetensors")
        assert loaded.family == "SDXL" and torch.equal(loaded.vectors["clip_g"], LARGE)
        assert loaded.notes == (f"read together with {other}.safetensors, which has the other text encoder's vectors",)
    (tmp_path / f"{first}.safetensors").unlink()
    with pytest.raises(ReVersionError, match="SDXL's second text encoder alone.; put the file of the first beside it"):
        relation.load(tmp_path / f"{second}.safetensors")


@pytest.mark.parametrize("suffixes", [(".safetensors", ".pt"), (".bin", ".safetensors"), (".PT", ".pt")])
def test_the_halves_may_have_other_suffixes(tmp_path, suffixes):
    for name, suffix, rows in (("cat_l", suffixes[0], ONE), ("cat_G", suffixes[1], LARGE)):
        data = safe({"<r>": rows}) if suffix == ".safetensors" else saved({"<r>": rows})
        (tmp_path / f"{name}{suffix}").write_bytes(data)
    for name in (f"cat_l{suffixes[0]}", f"cat_G{suffixes[1]}"):
        assert relation.load(tmp_path / name).family == "SDXL"


def test_two_embeddings_of_one_name_and_width_are_two(tmp_path):
    for name in ("cat", "cat_2"):
        (tmp_path / f"{name}.safetensors").write_bytes(safe({"<r>": ONE[0].clone()}))
    assert relation.load(tmp_path / "cat.safetensors").family == "SD 1.x"


class Calls:
    def __reduce__(self):
        return os.mkdir, ("ran",)


class Bytes:
    """Weights-only, torch would make them."""

    def __reduce__(self):
        return bytearray, (2**33,)


def header(entries, data=b""):
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


TOLD = {
    "page.safetensors": (b"\n<!DOCTYPE html><html>", "it is a web page.; download the file itself again"),
    "pointer.bin": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "it is a pointer of Git LFS"),
    "error.safetensors": (b'{"error":"Unauthorized"}', "it is the error message of a web site"),
    "picture.pt": (b"\x89PNG\r\n\x1a\n", "it is a PNG picture"),
    "model.safetensors": (b"GGUF\3\0\0\0", "it is a GGUF model"),
    "zip.pt": (None, "it is an archive.; unpack it"),
    "empty.bin": (b"", "it is an empty file"),
    "text.pt": (b"hello", "it is text that begins with 'hello'.; download the file itself again"),
    "missing.safetensors": (b"Entry not found", "it is text that begins with 'Entry not found'"),
    "page with a mark.bin": (b"\xef\xbb\xbf<!DOCTYPE html>", "it is a web page"),
    "text with a mark.bin": (("Zugriff verweigert \u00fc" * 30).encode("utf-8-sig"), "begins with 'Zugriff verweigert"),
    "wide text.bin": ("Zugriff verweigert".encode("utf-16"), "begins with 'Zugriff verweigert'"),
    "annex.pt": (b"/annex/objects/SHA256E-s3072--1.pt\n", "begins with '/annex/objects"),
    "garbage.bin": (b"\x80\x02garbage", "it is damaged"),
    "half.safetensors": (safe(TWO_L)[:1000], "it is damaged"),
    "half.pt": (saved({"<R>": TWO})[:1000], "it is an archive|it is damaged"),
    "lora.safetensors": (safe({"lora_te_x.lora_up.weight": TWO, "lora_te_x.alpha": TWO}), "it is a LoRA"),
    "checkpoint.safetensors": (safe({"model.diffusion_model.a": TWO, "b": ONE}), "it is a diffusion model"),
    "vae.safetensors": (safe({"decoder.a": TWO, "encoder.b": TWO}), "it is a VAE"),
    "encoder.safetensors": (safe({"text_model.a": TWO, "text_model.b": TWO}), "it is a text encoder"),
    "hunyuan.safetensors": (safe({**SDXL, "llama": vector(4096)}), "another text encoder"),
    "some.safetensors": (safe({"bundle_emb.a.clip_l": ONE, "bundle_emb.b.clip_l": ONE}), "several embeddings"),
    "two.safetensors": (safe({"<a>": ONE, "<b>": TWO}), "several embeddings: <a>, <b>.; save the one you want"),
    "two.bin": (saved({"string_to_param": {"*": ONE, "b": ONE}}), "several embeddings"),
    "a list of two.pt": (saved([{"a": ONE}, {"b": ONE}]), "several embeddings"),
    "one of a lora.safetensors": (safe({"lora_unet_x.lora_down.weight": TWO}), "it is a LoRA"),
    "one of a vae.safetensors": (safe({"decoder.a": TWO}), "it is a VAE"),
    "one of an encoder.safetensors": (safe({"text_model.embeddings.weight": TWO}), "it is a text encoder"),
    "optimizer.pt": (saved({"exp_avg": TWO}), "the state of an optimizer"),
    "only steps.pt": (saved({"global_step": torch.tensor([500])}), "no embedding found"),
    "call.pt": (saved({"<R>": Calls()}), "holds more than numbers and was not opened: "),
    "call.bin": (pickle.dumps({"<R>": Calls()}), "holds more than numbers and was not opened"),
    "bytes.pt": (saved({"<R>": Bytes()}), "holds more than numbers and was not opened"),
    "huge numbers.pt": (saved({"<R>": ONE * 1e37}), "numbers as large as"),
    "double.pt": (saved({"<R>": ONE.double() * 1e300}), "not finite"),
    "complex.pt": (saved({"<R>": ONE * 1j}), "instead of 1 to 75 vectors"),
    "module.pt": (old({"string_to_param": torch.nn.ParameterDict({"*": TWO})}), "holds more than numbers"),
    "sparse.pt": (saved({"<R>": ONE.to_sparse()}), "holds more than numbers"),
}  # fmt: skip


@pytest.mark.parametrize("name", TOLD)
def test_what_is_no_embedding_is_told(tmp_path, name):
    data, said = TOLD[name]
    path = tmp_path / name
    if data is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("r.safetensors", "x")
    else:
        path.write_bytes(data)
    with pytest.raises(ReVersionError, match=said):
        relation.load(path)
    assert not os.path.exists("ran")


def test_an_old_torch_is_told(tmp_path, monkeypatch):
    monkeypatch.delattr(torch.serialization, "safe_globals")
    (tmp_path / "a.pt").write_bytes(saved({"<R>": ONE}))
    with pytest.raises(ReVersionError, match="needs torch 2.5 or newer, and this is .*; update torch"):
        relation.load(tmp_path / "a.pt")


def test_a_pipe_a_folder_and_a_link_to_nothing_are_told(tmp_path):
    os.mkfifo(tmp_path / "a.pt")
    (tmp_path / "b.pt").mkdir()
    (tmp_path / "c.pt").symlink_to("nowhere")
    for name, said in (("a.pt", "no ordinary file"), ("b.pt", "a folder"), ("c.pt", "a link to nothing")):
        with pytest.raises(ReVersionError, match=f"'{name}' is not a relation .it is {said}"):
            relation.load(tmp_path / name)


def zero_stride(path):
    torch.save({"<R>": ONE[0, :1].expand(10**9)}, path)


def zero_stride_of_several(path):
    rows = ONE.expand(500_000, 768)
    torch.save({"<r>": rows, "<r>_1": rows}, path)


def deflated(path):
    file = io.BytesIO(saved({"<R>": torch.zeros(6 * 10**7)}))
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
        for name in archive.namelist():
            out.writestr(name, archive.read(name))


def bytes_of_nothing(path):
    path.write_bytes(saved({"<R>": Bytes()}))


def many_words(path):
    path.write_bytes(b"\x80\x02" + b"]" * 10_000_000 + b".")


def sparse_file(path):
    entry = {"dtype": "F32", "shape": [250_000_000], "data_offsets": [0, 10**9]}
    path.write_bytes(header({"<R>": entry}))
    os.truncate(path, len(header({"<R>": entry})) + 10**9)


@pytest.mark.parametrize(
    "make", [zero_stride, zero_stride_of_several, deflated, bytes_of_nothing, many_words, sparse_file]
)
def test_a_small_file_takes_little_memory(tmp_path, make):
    make(tmp_path / "a.pt")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ReVersionError, match=r"'a\.pt' is not a relation"):
        relation.load(tmp_path / "a.pt")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


@pytest.mark.parametrize(
    "metadata",
    [
        {"reversion.settings": "{"},
        {"reversion.settings": "[" * 100_000},
        {"reversion.settings": "3"},
        {"reversion.settings": '{"initial_word": 3}'},
        {"reversion.settings": '{"initial_word": " "}'},
        {"reversion.settings": '{"initial_word": ""}'},
        {"reversion.settings": '{"initial_word": "\\u200b\\n"}'},
        {"reversion.settings": '{"initial_word": "a\\ud800"}'},
        {"reversion.settings": '{"note": "\\ud800"}', "reversion.verdict": '{"text": "\\ud800"}'},
        {"reversion.base_family": "SDXL"},
        {"reversion.base_family": "\u732b", "reversion.placeholder": "\0"},
        {"reversion.steps_done": "many", "modelspec.trigger_phrase": "", "ss_tag_frequency": "x" * 10**6},
    ],
    ids=range(12),
)
def test_metadata_of_others_break_nothing(tmp_path, metadata):
    (tmp_path / "a.safetensors").write_bytes(safe({"clip_l": ONE}, metadata))
    loaded = relation.load(tmp_path / "a.safetensors")
    assert loaded.initial_word == "and" and loaded.family == "SD 1.x"
    f"{loaded.detail('settings')} {loaded.detail('verdict')}".encode()
    for suffix in relation.SUFFIXES:
        relation.save(loaded, tmp_path / f"b{suffix}")
        assert torch.equal(relation.load(tmp_path / f"b{suffix}").vectors["clip_l"], ONE)
