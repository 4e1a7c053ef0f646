"""A saved workflow becomes the graph that the frontend would send."""

import copy
import json

import pytest
from running import ROOT

from fleet import jobs, ready_tables, workflow
from fleet.errors import FleetError
from lab.harness import graphs, server


def node(id_, type_, inputs=(), outputs=(), widgets=None, **more):
    """A node as the frontend saves it; inputs: (name, type, link[, whether it is a widget]); outputs: their types."""
    sockets = [
        {"name": name, "type": kind, "link": link, **({"widget": {"name": name}} if widget else {})}
        for name, kind, link, *widget in inputs
    ]
    slots = [{"name": kind, "type": kind, "links": []} for kind in outputs]
    return {"id": id_, "type": type_, "mode": 0, "inputs": sockets, "outputs": slots, "widgets_values": widgets} | more


def canvas():
    """The default workflow with all that can lie in the way: reroute, note, bypass, mute, primitive, pack nodes."""
    nodes = [
        node(4, "CheckpointLoaderSimple", outputs=("MODEL", "CLIP", "VAE"), widgets=[server.CHECKPOINT]),
        node(20, "ReVersionLoadRelation", outputs=("REVERSION_RELATION", "STRING"), widgets=["r.safetensors"], mode=2),
        node(
            21,
            "ReVersionApplyRelation",
            [("clip", "CLIP", 3), ("relation", "REVERSION_RELATION", 4)],
            ["CLIP"],
            ["<R>", 1.0],
            mode=4,
        ),
        node(22, "Reroute", [("", "*", 5)], ["CLIP"]),
        node(6, "CLIPTextEncode", [("clip", "CLIP", 6)], ["CONDITIONING"], ["cat <R> stone"], title="Wanted"),
        node(7, "CLIPTextEncode", [("clip", "CLIP", 7), ("text", "STRING", None, 1)], ["CONDITIONING"], ["text"]),
        node(23, "PrimitiveNode", outputs=("INT",), widgets=[64, "fixed"]),
        node(5, "EmptyLatentImage", [("width", "INT", 14, 1)], ["LATENT"], [512, 64, 1]),
        node(
            3,
            "KSampler",
            [
                ("model", "MODEL", 1),
                ("positive", "CONDITIONING", 8),
                ("negative", "CONDITIONING", 9),
                ("latent_image", "LATENT", 10),
                ("seed", "INT", None, 1),
            ],
            ["LATENT"],
            [11, "randomize", 20, 8, "euler", "normal"],
        ),
        node(8, "VAEDecode", [("samples", "LATENT", 11), ("vae", "VAE", 2)], ["IMAGE"]),
        node(9, "SaveImage", [("images", "IMAGE", 12)], widgets=["ComfyUI"]),
        node(24, "PreviewImage", [("images", "IMAGE", 13)], mode=2),
        node(25, "Note", widgets=["Nothing here runs."]),
        node(
            26, "ReVersionLoadExemplars", outputs=("REVERSION_EXEMPLARS", "IMAGE", "STRING"), widgets=["in", 0, "pad"]
        ),
        node(
            27,
            "ReVersionTrain",
            [
                ("model", "MODEL", 15),
                ("clip", "CLIP", 16),
                ("vae", "VAE", 17),
                ("exemplars", "REVERSION_EXEMPLARS", 18),
            ],
            ["REVERSION_RELATION"],
            ["fast", 0, 0, 0, 0.0, "preset", "and", 1, "preset", "preset", 5, 0, "", 50, True],
        ),
    ]
    links = [
        [1, 4, 0, 3, 0, "MODEL"],
        [2, 4, 2, 8, 1, "VAE"],
        [3, 4, 1, 21, 0, "CLIP"],
        [4, 20, 0, 21, 1, "REVERSION_RELATION"],
        [5, 21, 0, 22, 0, "CLIP"],
        [6, 22, 0, 6, 0, "CLIP"],
        [7, 4, 1, 7, 0, "CLIP"],
        [8, 6, 0, 3, 1, "CONDITIONING"],
        [9, 7, 0, 3, 2, "CONDITIONING"],
        [10, 5, 0, 3, 3, "LATENT"],
        [11, 3, 0, 8, 0, "LATENT"],
        [12, 8, 0, 9, 0, "IMAGE"],
        [13, 8, 0, 24, 0, "IMAGE"],
        [14, 23, 0, 5, 0, "INT"],
        [15, 4, 0, 27, 0, "MODEL"],
        [16, 4, 1, 27, 1, "CLIP"],
        [17, 4, 2, 27, 2, "VAE"],
        [18, 26, 0, 27, 3, "REVERSION_EXEMPLARS"],
    ]
    return {"nodes": nodes, "links": links, "version": 0.4}


API = {
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": server.CHECKPOINT}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "cat <R> stone", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "text", "clip": ["4", 1]}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 11,
            "steps": 20,
            "cfg": 8,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1,
            "model": ["4", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}},
    "26": {"class_type": "ReVersionLoadExemplars", "inputs": {"folder": "in", "size": 0, "fit": "pad"}},
    "27": {
        "class_type": "ReVersionTrain",
        "inputs": {
            **graphs.TRAIN_WIDGETS,
            "preset": "fast",
            "training_seed": 5,
            "model": ["4", 0],
            "clip": ["4", 1],
            "vae": ["4", 2],
            "exemplars": ["26", 0],
        },
    },
}


@pytest.fixture(scope="module")
def schemas(real_host):
    return real_host.get("object_info")


def test_a_saved_workflow_becomes_its_api_format(schemas):
    made = workflow.from_canvas(canvas(), schemas)
    # The pack's nodes may have inputs that are newer than this workflow; they take their defaults, as denoise does.
    for number in ("26", "27"):
        assert made.graph[number]["inputs"].items() >= API[number]["inputs"].items()
    assert made.graph | {number: API[number] for number in ("26", "27")} == API
    assert made.titles["6"] == "Wanted" and made.titles["3"] == "KSampler"


def test_the_packs_own_workflows_become_graphs_and_take_the_ready_tables(schemas):
    made = {}
    for path in (ROOT / "workflows").glob("*.json"):
        made[path.stem] = workflow.from_canvas(workflow.read(path), schemas)
        for node in made[path.stem].graph.values():
            assert schemas[node["class_type"]]["input"].get("required", {}).keys() <= node["inputs"].keys()
    jobs.Jobs(made["2_use_a_relation"], ready_tables.benchmark("inside", 2, "{subject} <R> {object}", "in.safetensors"))
    jobs.Jobs(made["3_learn_and_use"], ready_tables.folders(["input/inside"]))


def test_values_that_do_not_fit_the_host_are_refused(schemas):
    data = canvas()
    sampler = next(node for node in data["nodes"] if node["id"] == 3)
    for stored in ([11, "randomize", 20, 8, "euler", "normal", 1, 5], ["11", 20, 8], []):
        sampler["widgets_values"] = stored
        with pytest.raises(FleetError, match=r"node 3 \(KSampler\): the workflow stores"):
            workflow.from_canvas(data, schemas)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"definitions": {"subgraphs": [{"id": "KSampler"}]}}, "it has subgraphs"),
        ({"version": 1}, "it has version 1 of the format"),
        ({"nodes": 1}, "neither a saved workflow nor one in API format"),
    ],
)
def test_other_files_are_refused(tmp_path, change, sentence):
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps({**copy.deepcopy(canvas()), **change}))
    with pytest.raises(FleetError, match=sentence):
        workflow.read(path)
