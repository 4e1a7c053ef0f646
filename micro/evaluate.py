"""How well the miniature draws what its own words say: through the host's KSampler, on pairs it was not trained on.

`python -m micro.evaluate` writes build/micro/accuracy.json and a sample sheet, and prints the table.
"""

import argparse
import json

import numpy as np
from PIL import Image

from . import graphs, host, judge, server, world

FOLDER = host.ROOT / "build" / "micro"


def measure(running, relation, pairs, word=None, steps=20, cfg=4.0):
    """Pictures of every pair in a relation and {relation, entity, colour accuracy} of them."""
    graph = {"checkpoint": graphs.node("CheckpointLoaderSimple", ckpt_name=server.CHECKPOINT)}
    for i, (subject, object_) in enumerate(pairs):
        graph |= graphs.draw(f"e{i}", f"{subject} {word or relation} {object_}", 100 + i, steps=steps, cfg=cfg)
    outputs = running.run(graph, 3600)
    pictures = [np.asarray(Image.open(running.picture(outputs[f"e{i}"]["images"][0]))) for i in range(len(pairs))]
    seen = [judge.look(picture) for picture in pictures]
    both = list(zip(seen, pairs, strict=True))
    return pictures, {
        "relation": float(np.mean([look.relation(*pair) == relation for look, pair in both])),
        "entity": float(np.mean([all(look.has(entity) for entity in pair) for look, pair in both])),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=25, help="a relation")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=4.0)
    arguments = parser.parse_args()
    table, rows = {}, []
    with server.Server(FOLDER / "host") as running:
        for relation in world.RELATIONS:
            rng = np.random.default_rng((8, world.RELATIONS.index(relation)))
            pairs = [world.random_pair(rng, held_out_pairs=True) for _ in range(arguments.pairs)]
            pictures, table[relation] = measure(running, relation, pairs, steps=arguments.steps, cfg=arguments.cfg)
            rows.append(np.concatenate(pictures[:10], axis=1))
            print(relation, table[relation], flush=True)  # noqa: T201
    table["mean"] = {key: float(np.mean([row[key] for row in table.values()])) for key in ("relation", "entity")}
    (FOLDER / "accuracy.json").write_text(json.dumps({**vars(arguments), "accuracy": table}, indent=1))
    Image.fromarray(np.concatenate(rows)).save(FOLDER / "samples.png")
    print("mean", table["mean"])  # noqa: T201


if __name__ == "__main__":
    main()
