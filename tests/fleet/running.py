"""What the tests of the fleet write and read."""

import asyncio
import csv
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.harness import graphs, server

ROOT = Path(__file__).resolve().parents[2]
JOB, RUN = "0" * 32, "1" * 32
GUARD = 60  # seconds that only a hang takes


def run_async(coroutine):
    """What a coroutine gives, on a thread of its own: the browser tests leave an event loop running in theirs."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def command(folder, workflow, rows, *options, out):
    (folder / "workflow.json").write_text(json.dumps(workflow))
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return ["run", str(folder / "workflow.json"), str(folder / "table.csv"), "--out", str(out), *options]


def manifest(out):
    path = out / "manifest.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def seeds(count):
    return [{"seed": seed} for seed in range(count)]


def wait_for_lines(out, count, seconds=90):
    deadline = time.monotonic() + seconds
    while len(manifest(out)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def assert_each_once(out, count):
    lines = manifest(out)
    assert len(lines) == count == len({line["job"] for line in lines})
    assert not any(line["error"] for line in lines)
    named = sorted(output["file"] for line in lines for output in line["outputs"])
    assert named == sorted(path.name for path in out.glob("*.png")) and len(named) == count
    assert not list(out.glob("*.partial"))


def address(host):
    return f"http://127.0.0.1:{host.port}"


def drawing(**changed):
    """A host's own nodes draw a cat. changed: titles of nodes that are not their ids."""
    graph = {"checkpoint": graphs.node("CheckpointLoaderSimple", ckpt_name=server.CHECKPOINT)}
    graph |= graphs.draw("cat", "a cat", 3, steps=1)
    return {id_: {**node, "_meta": {"title": changed.get(id_, id_)}} for id_, node in graph.items()}


def relation_drawing(steps):
    graph = {"checkpoint": graphs.node("CheckpointLoaderSimple", ckpt_name=server.CHECKPOINT)}
    return graph | graphs.draw("picture", "red circle inside blue square", 0, steps=steps)


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
