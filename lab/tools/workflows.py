"""The workflows that the pack ships.

`python -m lab.tools.workflows` writes workflows/*.json with the nodes as a running host has them. --pictures also
runs each on the miniature, at 64 x 64 and in words that it knows, and makes its picture of what came out.
"""

import argparse
import itertools
import json
import math
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from lab.harness import base_directory, comfyui, graphs, server
from lab.miniature.exemplars import write_exemplars
from lab.tools.builder import Workflow
from lab.tools.groups import NAME
from lab.tools.templates import EXAMPLE, WORKFLOWS

FOLDER = comfyui.ROOT / "workflows"

# What the miniature needs to draw well, for the pictures only.
MINIATURE_INPUTS = {"ckpt_name": server.CHECKPOINT, "width": 64, "height": 64, "pick": -1}
MINIATURE_WORDS = {
    "balanced": "fast",
    ", on the beach": "",
    "hamburger": "green star",
    "cat": "black triangle",
    "canvas": "blue square",
    "stone": "orange heart",
}
CARD = 512  # pixels, the side of a template's picture


def write_inputs(folder: Path) -> list[str]:
    """Put drawn exemplars where the workflows look for them, in the host's input folder; returns their captions."""
    write_exemplars(folder / NAME, "above")
    for i in range(4):
        shutil.copy(folder / NAME / f"{i}.png", folder / f"exemplar-{i + 1}.png")
    shutil.copy(comfyui.path() / "input" / EXAMPLE, folder / EXAMPLE)
    captions = json.loads((folder / NAME / "text.json").read_text())
    return [lines[0] for lines in captions.values()]


def as_text(workflow: dict[str, Any]) -> str:
    """JSON with every list of plain values on one line."""
    text = json.dumps(workflow, indent=1)
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: re.sub(r"\n\s*", " ", found[0]), text) + "\n"


def for_miniature(prompt: graphs.Graph, captions: Sequence[str]) -> graphs.Graph:
    """The prompt with what the miniature needs to draw well, changed in place."""
    pictures = (f"exemplar-{i}.png" for i in itertools.count(1))
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
                for word, known in MINIATURE_WORDS.items():
                    value = value.replace(word, known)
            node["inputs"][name] = value
    return prompt


def card(images: Sequence[Image.Image]) -> Image.Image:
    """The drawings in a grid, and below them the top of the first chart."""
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
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", action="store_true")
    with_pictures = parser.parse_args().pictures
    FOLDER.mkdir(exist_ok=True)
    with server.Server(base_directory.of("workflows")) as running:
        info, version = running.get("object_info"), running.get("system_stats")["system"]["comfyui_version"]
        captions = write_inputs(running.folder / "input")
        for name, fill in WORKFLOWS.items():
            workflow = Workflow(info, version)
            fill(workflow)
            (FOLDER / f"{name}.json").write_text(as_text(workflow.saved(name)), encoding="utf-8")
            if with_pictures:
                prompt = for_miniature(workflow.prompt(), captions)
                loaded = [node["inputs"]["image"] for node in prompt.values() if node["class_type"] == "LoadImage"]
                shown = [image for output in running.run(prompt).values() for image in output.get("images", [])]
                paths = [running.folder / "input" / name for name in loaded] + [*map(running.picture, shown)]
                images = [Image.open(path).convert("RGB") for path in paths]
                card(images).save(FOLDER / f"{name}.jpg", quality=85)


if __name__ == "__main__":
    main()
