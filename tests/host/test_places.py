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
