"""Hosts for the fleet: two real ones with the miniature, and simulated ones for what a real host never does."""

import os

import pytest
import ray
from running import command, manifest

from fleet import driver, measure
from fleet.__main__ import main
from lab.harness import server


@pytest.fixture(scope="package", autouse=True)
def ray_here():
    before = os.environ.copy()
    os.environ["OMP_NUM_THREADS"] = "1"  # several hosts share the cores
    driver.connect()
    yield
    ray.shutdown()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="package")
def real_host(tmp_path_factory):
    with server.Server(tmp_path_factory.mktemp("real"), "--cpu") as running:
        yield running


@pytest.fixture
def simulated_host():
    with measure.simulated_hosts(1) as (url,):
        yield url


@pytest.fixture
def fleet(tmp_path, capsys):
    """Writes a workflow and a table, calls `python -m fleet run` in this process, and gives its exit status, what it
    said, and the lines of the manifest."""

    def run(workflow, rows, *options, out=tmp_path / "out"):
        words = command(tmp_path, workflow, rows, *options, out=out)
        status = main(words)
        said = capsys.readouterr()
        return status, said.out + said.err, manifest(out)

    return run
