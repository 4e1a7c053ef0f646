"""Exemplars of the drawn world in a folder, and the pairs of entities to try what was learned on."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lab.miniature import placing, world


@dataclass(frozen=True)
class Look:
    """What the exemplars share beside the relation: the colours of subjects and of objects, and the background."""

    subject: str
    object: str
    background: str

    @property
    def colours(self) -> tuple[str, str]:
        return self.subject, self.object


def random_look(rng: np.random.Generator) -> Look:
    """Two colours and a background that is not the usual white."""
    subject, object_ = rng.choice(list(world.COLOURS), 2, replace=False)
    return Look(str(subject), str(object_), str(rng.choice(list(world.BACKGROUNDS)[1:])))


def _scene(relation: str, rng: np.random.Generator, look: Look | None) -> world.Scene:
    while True:
        subject, object_ = world.random_pair(rng)
        if look is None:
            return placing.arrange(relation, subject, object_, rng)
        subject, object_ = world.Entity(look.subject, subject.shape), world.Entity(look.object, object_.shape)
        if not world.held_out(subject, object_):
            return placing.arrange(relation, subject, object_, rng, look.background)


def write_exemplars(
    folder: Path,
    relation: str,
    count: int = 8,
    seed: int = 0,
    coarse: bool = False,
    look: Look | None = None,
    scale: int = 1,
) -> list[world.Scene]:
    """Draw exemplars of a relation into a folder with their text.json; returns their scenes.

    coarse: captions name the shapes only ("circle {} square"); look: what all exemplars share; scale: of
    their sides in 64 pixels.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rng = np.random.default_rng((5, seed))
    scenes = [_scene(relation, rng, look) for _ in range(count)]
    captions = {}
    for i, scene in enumerate(scenes):
        Image.fromarray(world.render(scene, scale)).save(folder / f"{i}.png")
        subject, object_ = ((e.shape if coarse else str(e)) for e in scene.pair)
        captions[f"{i}.png"] = [f"{subject} {{}} {object_}"]
    (folder / "text.json").write_text(json.dumps(captions, indent=1))
    return scenes


def unseen_pairs(count: int, exemplars: Sequence[world.Scene], seed: int = 0, without: Sequence[str] = ()) -> list:
    """Pairs of entities held out of the miniature's training, none of them with an entity pair of the exemplars.

    without: colours that no entity has.
    """
    rng = np.random.default_rng((6, seed))
    taken = {frozenset(scene.pair) for scene in exemplars}
    pairs = []
    while len(pairs) < count:
        pair = world.random_pair(rng, held_out_pairs=True)
        if frozenset(pair) not in taken and not {entity.colour for entity in pair} & set(without):
            taken.add(frozenset(pair))
            pairs.append(pair)
    return pairs
