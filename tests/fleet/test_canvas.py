"""A saved workflow becomes the graph that the frontend would send."""

import copy
import json

import pytest
from running import API, ROOT, canvas

from fleet import jobs, ready_tables, workflow
from fleet.errors import FleetError


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
