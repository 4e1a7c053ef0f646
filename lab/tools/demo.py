"""The pack's main job, headless: learn a relation from eight drawings in a real server and use it on unseen pairs.

Writes build/demo/contact_sheet.png (the exemplars; then for the same prompts and seeds <R>, "and" and the relation's
own word) and build/demo/report.json.
"""

import argparse
import json
import shutil
import time
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lab.harness import base_directory, comfyui, graphs, server
from lab.miniature import judge, world
from lab.miniature.exemplars import unseen_pairs, write_exemplars
from reversion_core.store import relation as relation_files

DEMO = comfyui.ROOT / "build" / "demo"
PAIRS = 16
SEED = 20


def contact_sheet(
    exemplars: Sequence[np.ndarray], rows: dict[str, Sequence[np.ndarray]], pairs: Sequence[tuple]
) -> Image.Image:
    """The exemplars, and below them a row for each label; all pictures uint8 [64, 64, 3], one a pair in a row."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--relation", choices=world.RELATIONS, default="above")
    relation = parser.parse_args().relation
    DEMO.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(base_directory.of("demo"), ignore_errors=True)  # what was learned before would be taken from disk
    with server.Server(base_directory.of("demo")) as running:
        scenes = write_exemplars(running.folder / "input" / "exemplars", relation)
        pairs = unseen_pairs(PAIRS, scenes)
        learn = graphs.learn("exemplars", preset="fast")
        learn["save"] = graphs.save("demo")
        started = time.monotonic()
        running.run(learn)
        seconds = time.monotonic() - started
        learn["apply"] = graphs.apply()
        words = {"R": "<R>", "and": "and", "word": relation}
        graph = dict(learn)
        for key, word in words.items():
            for i, (subject, object_) in enumerate(pairs):
                graph |= graphs.draw(f"{key}-{i}", f"{subject} {word} {object_}", SEED + i, ("apply", 0))
        outputs = running.run(graph)
        rows = {key: [running.pixels(outputs, f"{key}-{i}") for i in range(PAIRS)] for key in words}
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
