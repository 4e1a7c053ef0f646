from pathlib import Path

import pytest

from lab.harness import graphs, server
from lab.miniature.exemplars import write_exemplars


@pytest.fixture(scope="package")
def host_server(tmp_path_factory):
    probe = Path(__file__).with_name("reversion_probe")
    with server.Server(tmp_path_factory.mktemp("host"), "--cpu", more_nodes=[probe]) as running:
        yield running


@pytest.fixture(scope="package")
def exemplars(host_server):
    write_exemplars(host_server.folder / "input" / "inside", "inside")
    return "inside"


@pytest.fixture(scope="package")
def probe(host_server):
    """The hashes of weights and random states as they are in the server now."""

    def ask():
        graph = {
            "checkpoint": graphs.node("CheckpointLoaderSimple", ckpt_name=server.CHECKPOINT),
            "probe": graphs.node(
                "ReVersionProbe", model=["checkpoint", 0], clip=["checkpoint", 1], vae=["checkpoint", 2]
            ),
        }
        return host_server.run(graph)["probe"]

    return ask
