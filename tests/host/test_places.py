"""The same graph on machines whose folders differ."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image


@pytest.fixture
def second_root(reversion, tmp_path, monkeypatch):
    """One more embeddings folder, as extra_model_paths.yaml adds one."""
    import folder_paths

    roots, suffixes = folder_paths.folder_names_and_paths["embeddings"]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "embeddings", ([*roots, str(tmp_path)], suffixes))
    return tmp_path


def test_a_relation_is_found_in_any_embeddings_folder_under_the_same_name(reversion, core, second_root):
    from reversion_pack.nodes.relation import ReVersionLoadRelation

    vectors = torch.randn(1, 768, generator=torch.Generator().manual_seed(0))
    core.relation.save(core.relation.Relation({"clip_l": vectors}), second_root / "studio" / "carved.safetensors")
    names = ReVersionLoadRelation.define_schema().inputs[0].options
    assert "studio/carved.safetensors" in names
    # Written on Windows, or without its suffix: the same file.
    for name in ("studio/carved.safetensors", "studio\\carved.safetensors", "studio/carved"):
        assert ReVersionLoadRelation.validate_inputs(name) is True
        loaded = ReVersionLoadRelation.execute(name).args[0]
        assert torch.equal(loaded.vectors["clip_l"], vectors)


def test_a_missing_relation_is_named_with_its_node(reversion, core, second_root):
    from reversion_pack.nodes.relation import ReVersionLoadRelation

    with pytest.raises(core.errors.ReVersionError, match=r"ReVersion Load Relation, input 'relation': .*'studio/lost'"):
        ReVersionLoadRelation.execute("studio/lost")


def test_a_name_that_another_node_gives_is_looked_at_when_it_is_there(reversion, core):
    from reversion_pack.nodes.exemplars import ReVersionLoadExemplars
    from reversion_pack.nodes.relation import ReVersionLoadRelation
    from reversion_pack.nodes.tools import ReVersionScore

    # As the host calls them while the name is not known yet. The fingerprint equals no other: nothing stale is used.
    assert ReVersionLoadExemplars.validate_inputs(folder=None) is True
    assert ReVersionLoadRelation.validate_inputs(relation=None) is True
    assert ReVersionScore.validate_inputs(clip_folder=(None,)) is True
    for fingerprint in (
        ReVersionLoadExemplars.fingerprint_inputs(folder=None, size=0, fit="crop"),
        ReVersionLoadRelation.fingerprint_inputs(relation=None),
    ):
        assert fingerprint != fingerprint
    assert "there is no CLIP folder 'lost'" in ReVersionScore.validate_inputs(clip_folder=["lost"])


@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
def test_a_clip_is_offered_whichever_version_of_transformers_saved_it(reversion, tmp_path, monkeypatch, name):
    from reversion_pack.nodes import places, tools

    for folder, file in (("mine", name), ("other", "config.json")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).touch()
    monkeypatch.setattr(places, "_clip_roots", lambda: [tmp_path])
    offered = {port.id: port for port in tools.ReVersionScore.define_schema().inputs}["clip_folder"]
    assert offered.options == ["mine"]
    # Without any, the page would send nothing, and the host would refuse a graph with another judge.
    monkeypatch.setattr(places, "_clip_roots", list)
    offered = {port.id: port for port in tools.ReVersionScore.define_schema().inputs}["clip_folder"]
    assert offered.options == ["none"]


@pytest.fixture
def inputs(reversion, tmp_path, monkeypatch):
    """An input folder of our own."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    (tmp_path / "input").mkdir()
    return tmp_path / "input"


def with_picture(folder, name="0.png"):
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(folder / name)
    return folder


def offered():
    from reversion_pack.nodes.exemplars import ReVersionLoadExemplars

    return [name for name in ReVersionLoadExemplars.define_schema().inputs[0].options if name != "none"]


def test_folders_are_offered_three_levels_deep_and_none_that_a_system_left(inputs):
    for name in ("a", "b/c", "b/c/d", "b/c/d/e"):
        with_picture(inputs / name)
    for name in ("__MACOSX", ".ipynb_checkpoints", "a/.thumbnails", "lost+found", "System Volume Information"):
        with_picture(inputs / name)
    with_picture(inputs / "left", "._0.jpg")
    (inputs / "named" / "0.png").mkdir(parents=True)
    assert offered() == ["a", "b/c", "b/c/d"]


@pytest.mark.parametrize(
    "name", ["cats: best", "a\\b", "x" * 250, "\u732b" * 85, "a b.", "c:d", "C:", "  ", "a/\u732b" * 2, "it's {1} <R>"]
)
def test_what_is_offered_is_taken(inputs, core, name):
    from reversion_pack.nodes import places

    try:
        with_picture(inputs / name)
    except OSError:
        pytest.skip("this disk takes no such names")
    (inputs / f"{name[:80]}.json").touch()
    for folder in offered():
        assert places.exemplar_folder(folder, "node") == inputs / folder
    for file in places.list_files():
        assert places.list_file(file, "node") == inputs / file
    assert bool(offered()) == (name not in ("C:", "  "))


@pytest.mark.parametrize("name", [5, 1.5, True, ["a"], {"a": 1}])
def test_a_name_that_is_no_text_is_a_sentence(inputs, core, name):
    from reversion_pack.nodes import places
    from reversion_pack.nodes.exemplars import ReVersionLoadExemplars

    for find in (places.exemplar_folder, places.list_file, places.relation_file, places.clip_folder):
        with pytest.raises(core.errors.ReVersionError, match="is not a text; write the name in quotes"):
            find(name, "node")
    assert "is not a text" in ReVersionLoadExemplars.validate_inputs(name)


def test_a_name_that_no_disk_takes_comes_with_its_cure(inputs, core):
    from reversion_pack.nodes import places

    with pytest.raises(core.errors.ReVersionError, match="cannot be a name in ComfyUI's input folder; rename it"):
        places.exemplar_folder("x" * 300, "node")


def test_what_may_not_be_read_or_leads_nowhere_hides_nothing_else(inputs, monkeypatch):
    with_picture(inputs / "a")
    (inputs / "secret").mkdir()
    (inputs / "nowhere").symlink_to(inputs / "lost")
    (inputs / "itself").symlink_to(inputs / "itself")
    (inputs / "round").symlink_to(inputs)
    os.mkfifo(inputs / "pipe.json")
    (inputs / "lists.json").touch()
    scandir = os.scandir

    def forbidding(path):
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidding)
    from reversion_pack.nodes import NODES, places

    assert [len(node.define_schema().inputs) for node in NODES] and "a" in offered() and "secret" not in offered()
    assert places.list_files() == ["lists.json"]


def test_links_that_the_host_s_user_made_are_offered_and_followed(inputs, second_root, core):
    from reversion_pack.nodes import places

    elsewhere = with_picture(inputs.parent / "elsewhere")
    (inputs / "linked").symlink_to(elsewhere)
    (inputs / "of links").mkdir()
    (inputs / "of links" / "0.png").symlink_to(elsewhere / "0.png")
    assert offered() == ["linked", "of links"]
    for name in offered():
        assert core.exemplars.read_folder(places.exemplar_folder(name, "node"), lines="a {} b").names == ("0.png",)
    core.relation.save(core.relation.Relation({"clip_l": torch.ones(1, 768)}), elsewhere / "r.safetensors")
    (second_root / "r2.safetensors").symlink_to(elsewhere / "r.safetensors")
    assert "r2.safetensors" in places.relation_names() and places.relation_file("r2", "node").exists()


@pytest.mark.parametrize(
    "name",
    [".", "..", "a/..", "a/../b", "/etc", "\\\\host\\share", "C:\\x", "a/./b", ".. ", "...", "a//b", "", " ", "a\0b"]
    + ["x" * 300, "\u732b" * 100, "a/" * 600 + "a", "\ud800"],
    ids=range(18),
)
def test_names_from_a_queue_stay_inside(inputs, core, name):
    from reversion_pack.nodes import places

    for find in (places.exemplar_folder, places.list_file, places.relation_file, places.clip_folder):
        with pytest.raises(core.errors.ReVersionError):
            find(name, "node")


def test_the_fingerprint_of_a_folder_changes_with_its_files_whatever_lies_there(inputs):
    from reversion_pack.nodes.exemplars import ReVersionLoadExemplars

    folder = with_picture(inputs / "a")
    (folder / "nowhere.png").symlink_to("lost")
    before = ReVersionLoadExemplars.fingerprint_inputs("a", 0, "crop")
    assert before == ReVersionLoadExemplars.fingerprint_inputs("a", 0, "crop")
    (folder / "0.txt").write_text("cat {} stone")
    assert before != ReVersionLoadExemplars.fingerprint_inputs("a", 0, "crop")
