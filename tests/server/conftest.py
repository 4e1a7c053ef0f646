import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from micro import graphs, server, world


@pytest.fixture(scope="session")
def host_server(tmp_path_factory):
    probe = Path(__file__).with_name("reversion_probe")
    with server.Server(tmp_path_factory.mktemp("host"), "--cpu", more_nodes=[probe]) as running:
        yield running


def write_exemplars(folder, relation="inside", count=8, seed=4):
    """Drawn exemplars of a relation with their text.json, as an artist would lay them out."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    captions = {}
    for i in range(count):
        scene = world.arrange(relation, *world.random_pair(rng), rng)
        Image.fromarray(world.render(scene)).save(folder / f"{i}.png")
        captions[f"{i}.png"] = [f"{scene.subject.entity} {{}} {scene.object.entity}"]
    (folder / "text.json").write_text(json.dumps(captions))
    return folder


@pytest.fixture(scope="session")
def exemplars(host_server):
    return write_exemplars(host_server.folder / "input" / "inside").name


@pytest.fixture(scope="session")
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
