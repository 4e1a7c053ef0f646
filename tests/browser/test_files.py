"""The shipped workflows as files: sound in themselves, and as the nodes are today."""

import itertools
import json
import os

import pytest
from PIL import Image

from lab.tools import builder, workflows

FILES = sorted(workflows.FOLDER.glob("*.json"))


@pytest.fixture(scope="module")
def written(host_server):
    """Text of each workflow as the builder would write it now, by name."""
    version = json.loads(FILES[0].read_text())["nodes"][1]["properties"]["ver"]
    info = host_server.get("object_info")
    made = {name: builder.Workflow(info, version) for name in workflows.WORKFLOWS}
    for name, fill in workflows.WORKFLOWS.items():
        fill(made[name])
    return {name: workflows.as_text(workflow.saved(name)) for name, workflow in made.items()}


@pytest.mark.skipif(bool(os.environ.get("COMFYUI_PATH")), reason="another host's own nodes may have more widgets")
def test_they_are_what_the_builder_writes(written):
    assert [path.stem for path in FILES] == list(written)
    for path in FILES:
        assert path.read_text(encoding="utf-8") == written[path.stem], (
            f"run `python -m lab.tools.workflows` for {path.name}"
        )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_links_widgets_and_places_hold_together(path, host_server):
    workflow = json.loads(path.read_text(encoding="utf-8"))
    nodes = {node["id"]: node for node in workflow["nodes"]}
    info = host_server.get("object_info")
    assert len(nodes) == len(workflow["nodes"]) == workflow["last_node_id"]
    for number, source, output, target, slot, kind in workflow["links"]:
        place, into = nodes[source]["outputs"][output], nodes[target]["inputs"][slot]
        assert number in place["links"] and into["link"] == number
        assert place["type"] == kind and into["type"] in (kind, "*")
    linked = [i["link"] for node in nodes.values() for i in node["inputs"] if i["link"] is not None]
    assert sorted(linked) == [link[0] for link in workflow["links"]]

    for node in nodes.values():
        if node["type"] == "MarkdownNote":
            continue
        assert node["properties"]["cnr_id"] in ("comfy-core", "reversion-relations") and node["properties"]["ver"]
        required = info[node["type"]]["input"].get("required", {})
        given = {i["name"] for i in node["inputs"] if i["link"] is not None}
        plain = {name for name, (kind, *_) in required.items() if isinstance(kind, list) or kind in builder.WIDGETS}
        assert required.keys() - plain <= given

    for a, b in itertools.combinations(nodes.values(), 2):
        apart = [a["pos"][i] + a["size"][i] < b["pos"][i] - title for i, title in ((0, 0), (1, builder.TITLE))]
        apart += [b["pos"][i] + b["size"][i] < a["pos"][i] - title for i, title in ((0, 0), (1, builder.TITLE))]
        assert any(apart), (a["type"], b["type"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_has_a_picture(path):
    picture = path.with_suffix(".jpg")
    with Image.open(picture) as image:
        assert image.width >= 512
    assert picture.stat().st_size < 100_000
