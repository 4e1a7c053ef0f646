"""The pack's main job, headless: learn a relation from eight drawings in a real server and use it on unseen pairs.

By default a relation that words name in part only: far from something, at its upper left; with `--family sd3`, whose
model draws fewer relations well, "above". Writes
build/demo/contact_sheet.png (the exemplars; then for the same prompts and seeds <R>, "and" and the best word) and
build/demo/report.json.
"""

import argparse
import json
import shutil
import time
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lab.harness import base_directory, comfyui, graphs, server
from lab.miniature import judge, pack, world
from lab.miniature.exemplars import unseen_pairs, write_exemplars
from lab.miniature.forms import FORMS
from reversion_core.store import relation as relation_files

DEMO = comfyui.ROOT / "build" / "demo"
PAIRS = 16  # to draw
# Of relations without a word of their own the one that draws them most often, as the benchmark found on other pairs.
BEST_WORDS = {
    "descending": "far from",
    "ascending": "opposite",
    "leading": "with",
    "falling": "before",
    "rising": "left of",
    "peeking": "inside",
    "crowning": "inside",
}
SEED, STEPS = 20, 10  # of a picture


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


class Demo:
    """Learns one relation on a running server and draws with it. form: of the miniature."""

    def __init__(self, running: server.Server, form, relation: str):
        self.running, self.form, self.relation = running, form, relation
        self.scenes = write_exemplars(running.folder / "input" / "exemplars", relation, scale=form.scale)
        self.pairs = unseen_pairs(PAIRS, self.scenes)
        self.graph = graphs.learn("exemplars", checkpoint=form.checkpoint, preset="fast")
        self.graph["save"] = graphs.save("demo")

    def learn(self) -> float:
        """Train and save; returns the seconds that it took."""
        started = time.monotonic()
        self.running.run(self.graph)
        self.graph["apply"] = graphs.apply()
        return time.monotonic() - started

    def draw(self, word: str, count: int = PAIRS) -> list[np.ndarray]:
        """A picture of each of the first unseen pairs with a word between the two, uint8 [64, 64, 3]."""
        graph, sampling = dict(self.graph), {"steps": STEPS, "cfg": self.form.cfg, "side": self.form.side}
        for i, (subject, object_) in enumerate(self.pairs[:count]):
            graph |= graphs.draw(f"drawn-{i}", f"{subject} {word} {object_}", SEED + i, ("apply", 0), **sampling)
        outputs = self.running.run(graph)
        return [world.reduced(self.running.pixels(outputs, f"drawn-{i}")) for i in range(count)]

    def scores(self, pictures: Sequence[np.ndarray]) -> dict[str, float]:
        """The share of pictures with the relation, with both entities, and with an entity of the exemplars."""
        entities = {entity for scene in self.scenes for entity in scene.pair}
        found = judge.measures(pictures, self.pairs[: len(pictures)], self.relation, entities)
        return {name: float(seen.mean()) for name, seen in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    relations = (*world.RELATIONS, *world.ONE_SIDED, *world.WORDLESS)
    parser.add_argument("--relation", choices=relations)
    parser.add_argument("--family", choices=FORMS, default="sd1")
    arguments = parser.parse_args()
    form = pack.chosen_form(parser, arguments.family)
    relation = arguments.relation or form.shown
    DEMO.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(base_directory.of("demo"), ignore_errors=True)  # what was learned before would be taken from disk
    with server.Server(base_directory.of("demo"), checkpoints=[server.miniature(form)]) as running:
        demo = Demo(running, form, relation)
        seconds = demo.learn()
        words = {"R": "<R>", "and": "and", "word": BEST_WORDS.get(relation, relation)}
        rows = {key: demo.draw(word) for key, word in words.items()}
        version = running.get("system_stats")["system"]["comfyui_version"]
        learned = relation_files.load(running.folder / "models" / "embeddings" / "demo.safetensors")
    scores = {key: demo.scores(pictures) for key, pictures in rows.items()}
    report = {
        "family": arguments.family,
        "relation": relation,
        "best_word": words["word"],
        "steps": int(learned.metadata["reversion.steps_done"]),
        "train_seconds": round(seconds, 1),
        "host_version": version,
        "images": len(rows) * PAIRS,
        "relation_accuracy": {key: score["relation"] for key, score in scores.items()},
        "entity_accuracy": {key: score["entity"] for key, score in scores.items()},
        "leakage": {key: score["leakage"] for key, score in scores.items()},
    }
    labelled = {f"'{words[key]}'": pictures for key, pictures in rows.items()}
    contact_sheet([world.render(scene) for scene in demo.scenes], labelled, demo.pairs).save(DEMO / "contact_sheet.png")
    (DEMO / "report.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
