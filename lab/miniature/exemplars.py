"""Exemplars of the drawn world in a folder, and the pairs of entities to try what was learned on."""

import json
import shutil

import numpy as np
from PIL import Image

from lab.miniature import world


def write_exemplars(folder, relation, count=8, seed=0, coarse=False):
    """Draw exemplars of a relation into a folder with their text.json; returns their scenes.

    coarse captions name the shapes only ("circle {} square").
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rng = np.random.default_rng((5, seed))
    scenes = [world.arrange(relation, *world.random_pair(rng), rng) for _ in range(count)]
    captions = {}
    for i, scene in enumerate(scenes):
        Image.fromarray(world.render(scene)).save(folder / f"{i}.png")
        subject, object_ = ((e.shape if coarse else str(e)) for e in scene.pair)
        captions[f"{i}.png"] = [f"{subject} {{}} {object_}"]
    (folder / "text.json").write_text(json.dumps(captions, indent=1))
    return scenes


def unseen_pairs(count, exemplars, seed=0):
    """Pairs of entities held out of the miniature's training, none of them with an entity pair of the exemplars."""
    rng = np.random.default_rng((6, seed))
    taken = {frozenset(scene.pair) for scene in exemplars}
    pairs = []
    while len(pairs) < count:
        pair = world.random_pair(rng, held_out_pairs=True)
        if frozenset(pair) not in taken:
            taken.add(frozenset(pair))
            pairs.append(pair)
    return pairs
