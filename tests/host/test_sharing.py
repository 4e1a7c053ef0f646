"""What goes with a relation to somebody else: its picture, in the file and beside it, and how to use it."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

USAGE = "Between a fruit and a bowl, at 0.8."


@pytest.fixture
def node(tmp_path, monkeypatch):
    """ReVersion Save Relation, whose folder is `tmp_path`."""
    from reversion_pack.nodes import places
    from reversion_pack.nodes.relation import ReVersionSaveRelation

    monkeypatch.setattr(places, "embedding_roots", lambda: [tmp_path])
    return ReVersionSaveRelation


@pytest.fixture
def saved(core, node, tmp_path):
    """The folder in which the node has saved a relation, at first alone and then with a red picture."""
    red = torch.zeros(1, 600, 900, 4)
    red[..., 0], red[..., 3] = 1, 1
    made = core.relation.Relation({"clip_l": torch.full((1, 768), 0.01)}, {"reversion.base_family": "SD 1.x"})

    for given in ({}, {"preview": red, "usage": USAGE}):
        node.execute(made, "mine", False, **given)
    return tmp_path


def test_a_relation_whose_file_another_took_the_place_of_is_saved_again(core, node):
    """ComfyUI asks for the fingerprint before each Run, and keeps what equal ones gave."""
    one, other = (core.relation.Relation({"clip_l": torch.full((1, 768), x)}) for x in (0.01, 0.02))

    def run(relation):
        asked = node.fingerprint_inputs(name="over")
        node.execute(relation, "over", True)
        return asked

    first = run(one)
    assert node.fingerprint_inputs(name="over") == first
    run(other)
    again = run(one)
    assert again != first
    settled = node.fingerprint_inputs(name="over")
    assert run(one) == node.fingerprint_inputs(name="over") == settled


def test_the_file_has_a_thumbnail_and_how_to_use_it_and_the_picture_lies_beside_it(saved, core):
    assert sorted(path.name for path in saved.iterdir()) == ["mine.preview.png", "mine.safetensors"]
    metadata = core.relation.load(saved / "mine.safetensors").metadata
    assert metadata["modelspec.usage_hint"] == USAGE and metadata["modelspec.title"] == "mine"
    kind, _, data = metadata["modelspec.thumbnail"].partition(";base64,")
    thumbnail = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert kind == "data:image/jpeg" and thumbnail.shape == (171, 256, 3) and thumbnail[..., 0].min() > 250
    with Image.open(saved / "mine.preview.png") as beside:
        assert beside.size == (768, 512)


def test_comfyui_s_model_browser_finds_the_picture(saved):
    from app.model_manager import ModelFileManager

    assert ModelFileManager().get_model_previews(str(saved / "mine.safetensors"))[0] == str(saved / "mine.preview.png")
