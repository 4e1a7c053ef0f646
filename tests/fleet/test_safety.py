"""Addresses, sizes and names: nothing that a host sends is trusted."""

import pytest

from fleet import simulated
from fleet.addresses import checked_url
from fleet.answers import landing_name
from fleet.errors import FleetError, JobFailed


def test_addresses():
    assert checked_url("http://127.0.0.1:8188/") == "http://127.0.0.1:8188"
    assert checked_url("https://GPU-1.studio.example") == "https://gpu-1.studio.example"
    assert checked_url("http://[::1]:8188") == "http://[::1]:8188"


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:8188",
        "file:///etc/passwd",
        "http://user:secret@host",
        "http://host/view",
        "http://host?x=1",
        "http://host:99999",
        "http://ho st",
        "http://",
        "http://host#x",
    ],
)
def test_other_addresses_are_refused(text):
    with pytest.raises(FleetError, match="is not an address such as"):
        checked_url(text)


def test_a_file_lands_flat_under_its_job():
    assert landing_name("ab12", 3, "cat & dog_00007_.PNG") == "ab12-003-cat_dog.png"


@pytest.mark.parametrize(
    "name", ["../x.png", "/x.png", "a\\x.png", "c:x.png", ".x.png", "x\0.png", "x.py", "x", 5, "x.png\n"]
)
def test_other_names_are_refused(name):
    with pytest.raises(JobFailed, match="the host names a file"):
        landing_name("ab12", 0, name)


def test_a_name_or_a_size_of_a_host_fails_the_job_and_not_the_others(fleet, simulated_host, tmp_path):
    rows = [
        {"filename": "../../escaped.png", "size": 10},
        {"filename": "large_00001_.png", "size": 3 * 2**20},
        {"filename": "good_00001_.png", "size": 2**20},
    ]
    status, said, lines = fleet(simulated.graph(0.0), rows, "--host", simulated_host, "--limit", "2")
    assert status == 1
    assert "'../../escaped.png', which is refused" in said and "more than the 2097152 bytes" in said
    errors = {line["inputs"]["filename"]: line["error"] for line in lines}
    assert len(lines) == 3 and errors["good_00001_.png"] is None
    (picture,) = tmp_path.rglob("*.png")
    assert picture.parent.name == "out" and picture.stat().st_size == 2**20


def test_a_host_without_the_pack_or_the_model_is_left_out_with_one_error(fleet, simulated_host):
    graph = simulated.graph(0.0, model="absent.safetensors")
    graph["2"] = {"class_type": "ReVersionTrain", "inputs": {}}
    status, said, lines = fleet(graph, [{"seconds": 0}], "--host", simulated_host)
    assert status == 2 and not lines
    assert (
        f"{simulated_host} is left out: it lacks the nodes ReVersionTrain; install their pack there; "
        "node 1 (SimulatedPicture), input 'model': it has no 'absent.safetensors'"
    ) in said
    assert "no host is left; 1 jobs are not done" in said
