"""The miniature's figures: how well it draws what its own words say, its first stage, and the judge.

`python -m micro.evaluate` writes build/micro/accuracy.json and a sample sheet and prints the table. A server's KSampler
makes the pictures, of pairs of entities that the miniature was not trained on.
"""

import argparse
import json

import numpy as np
import torch
from PIL import Image

from . import demo, first_stage, graphs, host, judge, server, world
from .studio import Studio

FOLDER = host.ROOT / "build" / "micro"


def measure(running, relation, pairs, **drawing):
    """Pictures of every pair in a relation, by the relation's own word, and {relation, entity accuracy} of them.

    drawing: of `graphs.draw`.
    """
    graph = {"checkpoint": graphs.node("CheckpointLoaderSimple", ckpt_name=server.CHECKPOINT)}
    for i, (subject, object_) in enumerate(pairs):
        graph |= graphs.draw(f"e{i}", f"{subject} {relation} {object_}", 100 + i, **drawing)
    outputs = running.run(graph, 3600)
    pictures = [demo.read(running, outputs, f"e{i}") for i in range(len(pairs))]
    found = judge.measures(pictures, pairs, relation)
    return pictures, {name: float(found[name].mean()) for name in ("relation", "entity")}


def own_words(count, **drawing):
    """(table of accuracies, sample sheet uint8 [h, w, 3]) on `count` held-out pairs a relation."""
    table, rows = {}, []
    with server.Server(FOLDER / "host") as running:
        for number, relation in enumerate(world.RELATIONS):
            rng = np.random.default_rng((8, number))
            pairs = [world.random_pair(rng, held_out_pairs=True) for _ in range(count)]
            pictures, table[relation] = measure(running, relation, pairs, **drawing)
            rows.append(np.concatenate(pictures[:10], axis=1))
            print(relation, table[relation], flush=True)  # noqa: T201
    table["mean"] = {key: float(np.mean([row[key] for row in table.values()])) for key in ("relation", "entity")}
    return table, np.concatenate(rows)


def scenes(count, seed):
    """Scenes of held-out pairs, half of them off the grid."""
    rng = np.random.default_rng((12, seed))
    on_grid = (world.random_scene(rng, held_out_pairs=True) for _ in range(count))
    return [world.loosened(scene, rng) if i % 2 else scene for i, scene in enumerate(on_grid)]


def reconstruction(count=200):
    """PSNR in dB of the host's VAE on unseen scenes."""
    vae = Studio().vae
    pictures = torch.from_numpy(np.stack([world.render(scene) for scene in scenes(count, 0)])).float() / 255
    with torch.inference_mode():
        return first_stage.psnr(vae.decode(vae.encode(pictures)), pictures)


def judged(count=5000):
    """The share of rendered scenes that the judge reads right: both entities and the relation."""
    right = 0
    for scene in scenes(count, 1):
        seen = judge.look(world.render(scene))
        right += set(seen.entities) == set(scene.pair) and seen.relation(*scene.pair) == scene.relation
    return right / count


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=25, help="a relation")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=2.5)
    parser.add_argument("--sampler", default="dpmpp_2m_sde")
    parser.add_argument("--scheduler", default="karras")
    arguments = parser.parse_args()
    drawing = {name: value for name, value in vars(arguments).items() if name != "pairs"}
    table, sheet = own_words(arguments.pairs, **drawing)
    Image.fromarray(sheet).save(FOLDER / "samples.png")
    report = {**vars(arguments), "accuracy": table, "psnr": reconstruction(), "judge": judged()}
    (FOLDER / "accuracy.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
