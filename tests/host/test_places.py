"""The same graph on machines whose folders differ."""

import pytest
import torch


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
