"""What the tests of the server queue, and what they look at afterwards."""

from lab.harness import graphs
from reversion_core.store import relation

SHORT = {"preset": "fast", "steps": 2, "batch_size": 2, "accumulation": 1}


def saved(name, source=("train", 0), **options):
    inputs = {"relation": list(source), "name": name, "overwrite": True, **options}
    return {"save": graphs.node("ReVersionSaveRelation", **inputs)}


def vectors(host_server, name):
    return relation.load(host_server.folder / "models" / "embeddings" / f"{name}.safetensors").vectors["clip_l"]


def ran_nodes(host_server, graph):
    """Queue a graph; returns the ids of the nodes that were not taken from the host's cache, and the outputs."""
    entry = host_server.wait(host_server.queue(graph))
    assert entry["status"]["status_str"] == "success"
    cached = next(m["nodes"] for kind, m in entry["status"]["messages"] if kind == "execution_cached")
    return graph.keys() - set(cached), entry["outputs"]
