import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from reversion_core import families
from reversion_core.errors import ReVersionError
from reversion_core.store import relation


class Malicious:
    """Its pickle creates a file when it is opened carelessly."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def vector(width=768, count=1, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_file_keeps_numbers_and_metadata(tmp_path):
    metadata = relation.metadata_for("carved", "SD 1.x", "2026-01-01", "<R>", {"captions": [["cat {} stone"]]})
    relation.save(relation.Relation({"clip_l": vector(count=3)}, metadata), tmp_path / "r.safetensors")
    loaded = relation.load(tmp_path / "r.safetensors")
    assert torch.equal(loaded.vectors["clip_l"], vector(count=3))
    assert loaded.metadata["modelspec.trigger_phrase"] == "<R>"
    assert loaded.metadata["reversion.captions"] == '[["cat {} stone"]]'
    with safe_open(tmp_path / "r.safetensors", "pt") as file:
        assert set(file.keys()) == {"clip_l"}
    assert [p.name for p in tmp_path.iterdir()] == ["r.safetensors"]
    (tmp_path / "ordinary").touch()
    assert (tmp_path / "r.safetensors").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"<R>": vector()[0]}, {"clip_l": vector()}),
        ({"string_to_token": {"*": 265}, "string_to_param": {"*": vector(count=2)}, "name": "x"}, None),
        ({"<R>": vector(1024)[0]}, {"clip_h": vector(1024)}),
        ({"clip_l": vector(), "clip_g": vector(1280)}, {"clip_l": vector(), "clip_g": vector(1280)}),
        ({"emb_params": vector(count=2)}, {"clip_l": vector(count=2)}),
    ],
)
def test_layouts_of_other_programs(tmp_path, content, expected):
    torch.save(content, tmp_path / "r.bin")
    loaded = relation.load(tmp_path / "r.bin").vectors
    expected = expected or {"clip_l": vector(count=2)}
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[key], expected[key]) for key in expected)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("suffix", relation.SUFFIXES)
def test_every_layout_keeps_the_numbers_bit_for_bit(tmp_path, suffix, count):
    path = tmp_path / f"r{suffix}"
    relation.save(relation.Relation({"clip_l": vector(count=count)}), path)
    assert torch.equal(relation.load(path).vectors["clip_l"], vector(count=count))
    if suffix != ".safetensors":
        content = torch.load(path, weights_only=True)
        # diffusers expands no word in upper case to its several vectors.
        tensor = content["string_to_param"]["*"] if suffix == ".pt" else content["<R>" if count == 1 else "<r>"]
        assert tensor.shape[-1] == 768 and tensor.ndim == (1 if suffix == ".bin" and count == 1 else 2)
        with pytest.raises(ValueError, match="holds the vectors of one CLIP and SDXL has clip_l, clip_g"):
            relation.save(relation.Relation({"clip_l": vector(), "clip_g": vector(1280)}), path)


def test_code_in_a_pickle_does_not_run(tmp_path):
    for name, write in (("a.bin", torch.save), ("b.pt", lambda data, path: path.write_bytes(pickle.dumps(data)))):
        write({"<R>": Malicious(tmp_path / "ran")}, tmp_path / name)
        with pytest.raises(ReVersionError, match="holds more than numbers"):
            relation.load(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"<R>": torch.zeros(767)}, "shape 1 x 767"),
        ({"<R>": torch.full((768,), float("nan"))}, "not finite"),
        ({"<R>": torch.zeros(2, 2, 768)}, "shape 2 x 2 x 768"),
        ({"a": vector(), "b": vector()}, "several embeddings: a, b"),
        ([1, 2], "no embedding found"),
        ("words", "unknown layout"),
    ],
)
def test_what_is_no_embedding_is_refused(tmp_path, content, problem):
    torch.save(content, tmp_path / "r.bin")
    with pytest.raises(ReVersionError, match=problem):
        relation.load(tmp_path / "r.bin")


@pytest.mark.parametrize("data", [b"", b"\xff" * 8 + b"{}", b"garbage" * 100])
def test_broken_files_are_refused(tmp_path, data):
    for suffix in relation.SUFFIXES:
        (tmp_path / f"r{suffix}").write_bytes(data)
        with pytest.raises(ReVersionError, match=f"'r{suffix}'"):
            relation.load(tmp_path / f"r{suffix}")


@pytest.mark.parametrize("name", ["", "a b", "../a", "a/b", "CON", "a<b", "x" * 101, "123", "\u00fc"])
def test_names_that_some_system_or_prompt_cannot_read(name):
    with pytest.raises(ReVersionError, match="Save, input 'name'"):
        relation.checked_name(name, "Save", "name")


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "r.safetensors"
    relation.save(relation.Relation({"clip_l": vector()}), path)

    def full_disk(source, target):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(OSError, match="disk full"):
        relation.save(relation.Relation({"clip_l": vector(seed=1)}), path)
    assert torch.equal(relation.load(path).vectors["clip_l"], vector())
    assert [p.name for p in tmp_path.iterdir()] == ["r.safetensors"]


def test_a_file_that_cannot_be_read_is_another_relation(tmp_path):
    made = relation.Relation({"clip_l": vector()})
    (tmp_path / "r.safetensors").write_bytes(b"garbage")
    assert not relation.same_numbers(made, tmp_path / "r.safetensors")
    relation.save(made, tmp_path / "r.safetensors")
    assert relation.same_numbers(made, tmp_path / "r.safetensors")


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000, "NaN"])
def test_details_of_other_programs_break_nothing(text):
    made = relation.Relation({"clip_l": torch.ones(1, 768)}, {"reversion.verdict": text})
    assert made.detail("verdict") == {} == made.detail("nothing")


def test_t5_is_written_in_both_names_and_read_in_either(tmp_path):
    generator = torch.Generator().manual_seed(0)
    vectors = {"clip_l": torch.randn(2, 768, generator=generator), "t5xxl": torch.randn(2, 4096, generator=generator)}
    relation.save(relation.Relation(vectors), tmp_path / "flux.safetensors")
    written = load_file(tmp_path / "flux.safetensors")
    assert written.keys() == {"clip_l", "t5xxl", "t5"}
    del written["t5xxl"]  # as OneTrainer leaves it
    save_file(written, tmp_path / "onetrainer.safetensors")
    for name in ("flux", "onetrainer"):
        read = relation.load(tmp_path / f"{name}.safetensors")
        assert read.vectors.keys() == vectors.keys()
        assert all(torch.equal(read.vectors[key], vectors[key]) for key in vectors)


@pytest.mark.parametrize("suffix", [".pt", ".bin"])
@pytest.mark.parametrize("key", ["qwen3_06b", "qwen3_4b", "t5xxl"])
def test_numbers_without_a_name_are_not_written_of_what_is_known_by_name_alone(tmp_path, key, suffix):
    """1024 numbers would come back as those of SD 2.x."""
    made = relation.Relation({key: torch.ones(1, families.WIDTHS[key])})
    with pytest.raises(ValueError, match=f"a {suffix} file holds the vectors of one CLIP .* has {key}"):
        relation.save(made, tmp_path / f"r{suffix}")


@pytest.mark.parametrize("family", families.FAMILIES, ids=lambda family: family.name)
def test_a_relation_of_every_family_comes_back_from_its_file(tmp_path, family):
    keys = family.encoders if family.all_encoders else family.encoders[:-1]
    vectors = {key: vector(families.WIDTHS[key], count=2) for key in keys}
    about = relation.metadata_for("carved", family.name, "2026-01-01", "<R>", {"base_family": family.name})
    relation.save(relation.Relation(vectors, about), tmp_path / "r.safetensors")
    back = relation.load(tmp_path / "r.safetensors")
    assert back.family == family.name and back.vectors.keys() == vectors.keys() and back.notes == ()
    assert all(torch.equal(back.vectors[key], vectors[key]) for key in vectors)


@pytest.mark.parametrize(
    ("keys", "family"),
    [(("clip_l",), "SD 1.x"), (("clip_l", "clip_g"), "SDXL"), (("clip_l", "t5xxl"), "Flux.1"), (("t5xxl",), "unknown")],
)
def test_a_file_that_names_no_family_is_taken_for_the_likely_one_of_its_encoders(keys, family):
    assert relation.Relation({key: torch.ones(1, families.WIDTHS[key]) for key in keys}).family == family
