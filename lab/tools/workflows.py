"""The workflows that the pack ships.

`python -m lab.tools.workflows` writes workflows/*.json with the nodes as a running host has them. --pictures also
runs each on the miniature, at 64 x 64 and in words that it knows, and makes its picture of what came out; with names
behind it only those, which take the relation that an earlier run of the first has learned.
"""

import argparse
import itertools
import json
import math
import re
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from lab.harness import base_directory, comfyui, graphs, server
from lab.miniature.exemplars import write_exemplars
from lab.tools.beyond import OTHER
from lab.tools.builder import Workflow
from lab.tools.groups import EXAMPLE, NAME
from lab.tools.templates import WORKFLOWS

FOLDER = comfyui.ROOT / "workflows"

# What the miniature needs to draw well, for the pictures only.
MINIATURE_INPUTS = {"ckpt_name": server.CHECKPOINT, "width": 64, "height": 64, "pick": -1}
MINIATURE_WORDS = {
    "balanced": "fast",
    "canvas <S> stone": "<S> canvas",  # it draws two things
    "painted_on": "my own lists",
    ", on the beach": "",
    "hamburger": "green star",
    "cat": "black triangle",
    "canvas": "blue square",
    "stone": "orange heart",
}
RELATION = "above"  # of the exemplars that are learned from
MOST_STEPS = 20  # of a sampler, for the time it takes
CARD = 512  # pixels, the side of a template's picture


def write_inputs(folder: Path) -> list[str]:
    """Put drawn exemplars where the workflows look for them, in the host's input folder; returns the captions of
    exemplar-1.png to exemplar-4.png, and of other.png, which shows another relation."""
    write_exemplars(folder / NAME, RELATION)
    write_exemplars(folder / OTHER, "left of", seed=1)
    for i in range(4):
        shutil.copy(folder / NAME / f"{i}.png", folder / f"exemplar-{i + 1}.png")
    shutil.copy(folder / OTHER / "0.png", folder / "other.png")
    shutil.copy(comfyui.path() / "input" / EXAMPLE, folder / EXAMPLE)
    of_all = [json.loads((folder / name / "text.json").read_text()) for name in (NAME, OTHER)]
    captions, others = ([lines[0] for lines in found.values()] for found in of_all)
    return [*captions[:4], others[0]]


def as_text(workflow: dict[str, Any]) -> str:
    """JSON with every list of plain values on one line."""
    text = json.dumps(workflow, indent=1)
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: re.sub(r"\n\s*", " ", found[0]), text) + "\n"


def for_miniature(prompt: graphs.Graph, captions: Sequence[str]) -> graphs.Graph:
    """The prompt with what the miniature needs to draw well, and its own judge in place of a CLIP; changed in place."""
    pictures = (f"exemplar-{i}.png" for i in itertools.count(1))
    words = MINIATURE_WORDS
    if any(node["class_type"] == "VAEEncode" for node in prompt.values()):  # a picture is changed
        pictures = itertools.repeat("other.png")
        words = {f"hamburger {w} canvas, on the beach": captions[-1].replace("{}", w) for w in ("<R>", "and")}
    for node in prompt.values():
        if node["class_type"] == "ReVersionExemplars":
            pictures_in = sum(isinstance(value, list) for value in node["inputs"].values())
            node["inputs"]["captions"] = "\n".join(captions[:pictures_in])
        for name, value in node["inputs"].items():
            if name in MINIATURE_INPUTS:
                value = MINIATURE_INPUTS[name]
            elif value == EXAMPLE:
                value = next(pictures)
            elif isinstance(value, str):
                for word, known in words.items():
                    value = value.replace(word, known)
            node["inputs"][name] = value
    for sampler in of_class(prompt, "KSampler"):
        prompt[sampler]["inputs"]["steps"] = min(prompt[sampler]["inputs"]["steps"], MOST_STEPS)
    for score in of_class(prompt, "ReVersionScore"):
        given = {name: prompt[score]["inputs"][name] for name in ("images", "prompts")}
        prompt[f"{score}-judge"] = graphs.node("ReVersionJudge", **given, relation=RELATION)
        prompt[score]["inputs"] |= {"judged": [f"{score}-judge", 0], "add_to_table": False}
    return prompt


def of_class(prompt: graphs.Graph, name: str) -> list[str]:
    """The ids of the nodes of a class."""
    return [number for number, node in prompt.items() if node["class_type"] == name]


def card(images: Sequence[Image.Image], words: str = "") -> Image.Image:
    """The drawings in a grid; below them the top of the first chart, and what was measured."""
    drawings = [image for image in images if image.width <= MINIATURE_INPUTS["width"]]
    columns = math.ceil(math.sqrt(len(drawings)))
    side = CARD // columns
    charts = [image for image in images if image not in drawings][:1]
    rows = side * math.ceil(len(drawings) / columns)
    picture = Image.new("RGB", (CARD, rows + CARD // 2 * len(charts)), "white")
    for i, drawing in enumerate(drawings):
        tile = drawing.resize((side, side), Image.Resampling.NEAREST)
        picture.paste(tile, (i % columns * side, i // columns * side))
    for chart in charts:
        top = chart.crop((0, 0, chart.width, chart.width // 2))
        picture.paste(top.resize((CARD, CARD // 2), Image.Resampling.LANCZOS), (0, rows))
    return with_words(picture, words) if words else picture


def with_words(picture: Image.Image, words: str) -> Image.Image:
    """The picture with a text below it."""
    lines = textwrap.wrap(words, 48)
    below = Image.new("RGB", (picture.width, picture.height + 28 * len(lines) + 16), "white")
    below.paste(picture)
    font = ImageFont.load_default(20)
    ImageDraw.Draw(below).multiline_text((12, picture.height + 8), "\n".join(lines), "black", font, spacing=8)
    return below


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", nargs="*", metavar="NAME", choices=[[], *WORKFLOWS])
    pictures = parser.parse_args().pictures
    FOLDER.mkdir(exist_ok=True)
    with server.Server(base_directory.of("workflows"), more_nodes=[graphs.PROBE]) as running:
        info, version = running.get("object_info"), running.get("system_stats")["system"]["comfyui_version"]
        captions = write_inputs(running.folder / "input")
        if pictures is not None:
            running.run(graphs.learn(OTHER, 64, preset="fast") | {"save": graphs.save(OTHER)})
        for name, fill in WORKFLOWS.items():
            workflow = Workflow(info, version)
            fill(workflow)
            (FOLDER / f"{name}.json").write_text(as_text(workflow.saved(name)), encoding="utf-8")
            if pictures == [] or name in (pictures or ()):
                prompt = for_miniature(workflow.prompt(), captions)
                loaded = [node["inputs"]["image"] for node in prompt.values() if node["class_type"] == "LoadImage"]
                outputs = running.run(prompt)
                shown = [image for output in outputs.values() for image in output.get("images", [])]
                measured = [outputs[score]["text"][0].split("\n")[0] for score in of_class(prompt, "ReVersionScore")]
                paths = [running.folder / "input" / name for name in loaded] + [*map(running.picture, shown)]
                images = [Image.open(path).convert("RGB") for path in paths]
                card(images, " ".join(measured)).save(FOLDER / f"{name}.jpg", quality=85)


if __name__ == "__main__":
    main()
