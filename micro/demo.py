"""The pack's main job, headless: learn a relation from eight drawings in a real server and use it on unseen pairs.

Writes build/demo/contact_sheet.png (the exemplars; then for the same prompts and seeds <R>, "and" and the relation's
own word) and build/demo/report.json.
"""

import argparse
import json
import shutil
import time

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from reversion_core import relation as relation_files

from . import graphs, host, judge, server, world

DEMO = host.ROOT / "build" / "demo"
PAIRS = 16
SEED = 20


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


def contact_sheet(exemplars, rows, pairs):
    """exemplars: pictures; rows: label -> pictures, one a pair."""
    cell, gap, label = world.SIDE * 2, 6, 86
    width = label + (cell + gap) * len(pairs)
    lines = {"exemplars": exemplars, **rows}
    sheet = Image.new("RGB", (width, (cell + gap) * len(lines) + 34), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for row, (name, pictures) in enumerate(lines.items()):
        y = row * (cell + gap) + (34 if row else 0)
        draw.text((6, y + cell // 2 - 8), name, fill="black", font=font)
        for column, picture in enumerate(pictures):
            tile = Image.fromarray(picture).resize((cell, cell), Image.Resampling.NEAREST)
            sheet.paste(tile, (label + column * (cell + gap), y))
    small = ImageFont.load_default(10)
    for column, pair in enumerate(pairs):
        for line, entity in enumerate(pair):
            draw.text(
                (label + column * (cell + gap) + 2, cell + gap + 4 + 13 * line), str(entity), fill="black", font=small
            )
    return sheet


def read(running, outputs, name):
    return np.asarray(Image.open(running.picture(outputs[name]["images"][0])).convert("RGB"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--relation", choices=world.RELATIONS, default="above")
    relation = parser.parse_args().relation
    shutil.rmtree(DEMO, ignore_errors=True)
    with server.Server(DEMO / "host") as running:
        scenes = write_exemplars(running.folder / "input" / "exemplars", relation)
        pairs = unseen_pairs(PAIRS, scenes)
        learn = graphs.learn("exemplars", preset="fast")
        learn["save"] = graphs.node("ReVersionSaveRelation", relation=["train", 0], name="demo", overwrite=True)
        started = time.monotonic()
        running.run(learn)
        seconds = time.monotonic() - started
        learn["apply"] = graphs.node(
            "ReVersionApplyRelation", clip=["checkpoint", 1], relation=["train", 0], placeholder="<R>", strength=1.0
        )
        words = {"R": "<R>", "and": "and", "word": relation}
        graph = dict(learn)
        for key, word in words.items():
            for i, (subject, object_) in enumerate(pairs):
                graph |= graphs.draw(f"{key}-{i}", f"{subject} {word} {object_}", SEED + i, ("apply", 0))
        outputs = running.run(graph)
        rows = {key: [read(running, outputs, f"{key}-{i}") for i in range(PAIRS)] for key in words}
        version = running.get("system_stats")["system"]["comfyui_version"]
        learned = relation_files.load(running.folder / "models" / "embeddings" / "demo.safetensors")
    scores = {key: judge.measures(pictures, pairs, relation) for key, pictures in rows.items()}
    report = {
        "relation": relation,
        "steps": int(learned.metadata["reversion.steps_done"]),
        "train_seconds": round(seconds, 1),
        "host_version": version,
        "images": len(rows) * PAIRS,
        "relation_accuracy": {key: float(score["relation"].mean()) for key, score in scores.items()},
        "entity_accuracy": {key: float(score["entity"].mean()) for key, score in scores.items()},
    }
    labelled = {f"'{words[key]}'": pictures for key, pictures in rows.items()}
    contact_sheet([world.render(scene) for scene in scenes], labelled, pairs).save(DEMO / "contact_sheet.png")
    (DEMO / "report.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
