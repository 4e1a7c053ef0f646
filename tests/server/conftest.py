import pytest

from lab.harness import graphs, server
from lab.miniature.exemplars import write_exemplars


@pytest.fixture(scope="package")
def host_server(tmp_path_factory):
    with server.Server(tmp_path_factory.mktemp("host"), "--cpu", more_nodes=[graphs.PROBE]) as running:
        yield running


@pytest.fixture(scope="package")
def exemplars(host_server):
    write_exemplars(host_server.folder / "input" / "inside", "inside")
    return "inside"


@pytest.fixture(scope="package")
def probe(host_server):
    """The hashes of weights and random states as they are in the server now."""

    def ask():
        return host_server.run(graphs.probe())["probe"]

    return ask
