"""The workflows that the pack ships.

`python -m lab.tools.workflows` writes workflows/*.json with the nodes as a running host has them. --pictures also
runs each on the miniature, at 64 x 64 and in words that it knows, and makes its picture of what came out.
"""

import argparse
import json
import math
import re
import shutil

from PIL import Image

from lab.harness import base_directory, comfyui, server
from lab.miniature.exemplars import write_exemplars
from lab.tools.sheet import CHECKPOINT, Sheet

FOLDER = comfyui.ROOT / "workflows"
NAME = "my-relation"  # of the folder with exemplars, and of the relation that is saved
IMAGES = tuple(f"exemplar-{i}.png" for i in (1, 2, 3, 4))

# What the miniature needs to draw well, for the pictures only.
SMALL = {"ckpt_name": server.CHECKPOINT, "width": 64, "height": 64}
INSTEAD = {
    "balanced": "fast",
    ", on the beach": "",
    "hamburger": "green star",
    "cat": "black triangle",
    "canvas": "blue square",
    "stone": "orange heart",
}
CARD = 512
CHART = 640  # the room for a report, which is twice as high as wide

MODEL_NOTE = "Choose a Stable Diffusion 1.x checkpoint. Learn and use a relation with the same one."
LEARN_NOTE = """\
Learns `<R>`; the checkpoint stays as it is. The bar and the curves move from the first step.

**Cancel whenever you like:** what was learned is kept, and the same training goes on when you queue it again. Queued a
second time unchanged, nothing is learned twice.

**To change:** `preset` *fast* for a first look. More `steps` if `<R>` is too weak, fewer if it copies your pictures."""
SAVE_NOTE = """\
Saves `<R>` in the `embeddings` folder, for the other workflows and for `embedding:NAME` in any prompt.

**To change:** `name`, for each relation another. Another relation of that name is replaced only with `overwrite` on."""
PROMPT_NOTE = """\
Write `<R>` where the relation stands, between any two things, and go on as you like: *on the beach, photo*.

**To change:** the prompt. If the relation overwhelms the rest, lower `strength` to 0.8."""
PICTURE_NOTE = """\
An ordinary KSampler.

**To change:** `seed` for another picture. 512 x 512 suits Stable Diffusion 1.x best."""


def learn_a_relation(sheet):
    checkpoint = model_group(sheet)
    exemplars = folder_group(sheet)
    train = train_group(sheet, checkpoint, exemplars, previews=100)
    sheet.group(
        "4  Look at the training",
        "**Report:** the loss jumps about, that is normal. The similarity to prepositions should not fall to "
        "nothing.\n\n"
        "**Previews:** the first caption drawn with `<R>`, every 100 steps, from the same noise. Do they come to "
        "show the relation?",
    )
    sheet.add("PreviewImage", "Report", room=CHART, images=train[2])
    sheet.add("PreviewImage", "Previews", images=train[3])
    sheet.group(
        "5  Keep it",
        f"{SAVE_NOTE}\n\n**Words near `<R>`:** good are words such as *on* or *inside*. If they are things of your "
        "pictures, the look of the pictures leaked in: plug ReVersion Steering into the trainer and name them there.",
    )
    sheet.add("ReVersionSaveRelation", relation=train, name=NAME)
    inspect = sheet.add("ReVersionInspect", relation=train, clip=checkpoint)
    sheet.column()
    sheet.add("PreviewAny", "Words near <R>", source=inspect[0])
    sheet.add("PreviewImage", "Where <R> lies", images=inspect)


def use_a_relation(sheet):
    checkpoint = model_group(sheet)
    clip = load_group(sheet, checkpoint)
    positive, negative = prompt_group(sheet, checkpoint, clip, "hamburger <R> canvas, on the beach")
    picture_group(sheet, checkpoint, positive, negative)


def learn_and_use(sheet):
    checkpoint = model_group(sheet)
    exemplars = folder_group(sheet)
    train = train_group(sheet, checkpoint, exemplars)
    sheet.group("4  Keep and apply it", f"{SAVE_NOTE}\n\nReVersion Apply Relation teaches the CLIP the word `<R>`.")
    sheet.add("ReVersionSaveRelation", relation=train, name=NAME)
    clip = sheet.add("ReVersionApplyRelation", clip=checkpoint, relation=train)
    positive, negative = prompt_group(sheet, checkpoint, clip, "hamburger <R> canvas, on the beach", number=5)
    picture_group(sheet, checkpoint, positive, negative, number=6)


def prompt_grid(sheet):
    checkpoint = model_group(sheet)
    clip = load_group(sheet, checkpoint)
    sheet.group(
        "3  Prompts",
        "Writes every subject with every object: here 2 x 2 prompts. Everything to the right runs once for each, in "
        "one "
        "queue.\n\n**To change:** the lists, a word or a phrase a line, and the template. `preset` puts in the 100 "
        "pairs of "
        "a benchmark relation; `limit` takes only the first.",
    )
    grid = sheet.add("ReVersionPrompts", subjects="cat\nhamburger", objects="stone\ncanvas")
    sheet.column()
    positive = sheet.add("CLIPTextEncode", "Prompt", clip=clip, text=grid)
    negative = sheet.add("CLIPTextEncode", "Negative prompt", clip=checkpoint, text="")
    sheet.group(
        "4  Pictures",
        "All pictures have the same seed, so that they can be compared. Each is saved under the name of its prompt.\n\n"
        "**To change:** `seed`, then queue again for another picture of each.",
    )
    pictures(sheet, checkpoint, positive, negative, filename_prefix=grid[1])


def focal_sampling(sheet):
    checkpoint = model_group(sheet)
    clip = load_group(sheet, checkpoint)
    sheet.group(
        "3  Prompts",
        "The same prompt twice: with `<R>`, and with a plain word in its place. Their difference is what the relation "
        "adds.\n\n**To change:** both prompts, alike but for `<R>`.",
    )
    relation = sheet.add("CLIPTextEncode", "Prompt with <R>", clip=clip, text="hamburger <R> canvas, on the beach")
    plain = sheet.add("CLIPTextEncode", "Plain prompt", clip=checkpoint, text="hamburger and canvas, on the beach")
    negative = sheet.add("CLIPTextEncode", "Negative prompt", clip=checkpoint, text="")
    sheet.group(
        "4  The same for both",
        "One noise, one sampler, one size: only the guidance and the schedule differ.\n\n"
        "**To change:** `noise_seed` for another pair of pictures.",
    )
    shared = {
        "noise": sheet.add("RandomNoise", noise_seed=1),
        "sampler": sheet.add("KSamplerSelect", sampler_name="euler"),
        "latent_image": sheet.add("EmptyLatentImage", width=512, height=512),
    }
    sheet.group(
        "5  Ordinary",
        "Ordinary guidance on the prompt with `<R>` and ComfyUI's *normal* schedule: what KSampler does.",
    )
    ordinary = {
        "guider": sheet.add("CFGGuider", model=checkpoint, positive=relation, negative=negative, cfg=7.5),
        "sigmas": sheet.add("BasicScheduler", model=checkpoint, scheduler="normal", steps=20),
    }
    sampled(sheet, checkpoint, "ordinary", **ordinary, **shared)
    sheet.group(
        "6  Relation-focal",
        "The relation guides with a strength of its own, most at high noise, where a picture decides how things stand "
        "to "
        "each other; more of the steps go there too.\n\n**To change:** raise `strength` if the relation is too weak, "
        "lower it if the picture breaks. `alpha` 0 in both and `strength` equal to `cfg` gives the ordinary picture.",
    )
    guider = {"relation": relation, "plain": plain, "negative": negative, "cfg": 7.5, "strength": 10.0}
    focal = {
        "guider": sheet.add("ReVersionFocalGuider", model=checkpoint, **guider),
        "sigmas": sheet.add("ReVersionFocalScheduler", model=checkpoint, steps=20, alpha=0.5),
    }
    sampled(sheet, checkpoint, "focal", **focal, **shared)


def exemplars_from_images(sheet):
    checkpoint = model_group(sheet)
    sheet.group(
        "2  Pictures",
        "Choose 4 to 10 pictures that share the relation and little else. For more than four, add a Load Image and a "
        "Batch "
        "Images for each.\n\nBatch Images crops every picture to the shape of the first.",
    )
    loaded = []
    for i, name in enumerate(IMAGES):
        if i == 2:
            sheet.column()
        loaded.append(sheet.add("LoadImage", f"Picture {i + 1}", image=name))
    sheet.group(
        "3  Captions",
        "A line for each picture, in their order. Name both things; `{}` stands for the relation.\n\n**To change:** "
        "every "
        "line. Another picture needs another line.",
    )
    batch = loaded[0]
    for other in loaded[1:]:
        batch = sheet.add("ImageBatch", image1=batch, image2=other)
    captions = "cat {} stone\nhamburger {} canvas\nflower {} wall\ndog {} wood"
    exemplars = sheet.add("ReVersionExemplars", images=batch, captions=captions)
    sheet.column()
    sheet.add("PreviewImage", "Exemplars", images=batch)
    train = train_group(sheet, checkpoint, exemplars, number=4)
    sheet.group("5  Keep it", SAVE_NOTE)
    sheet.add("ReVersionSaveRelation", relation=train, name=f"{NAME}-from-images")
    sheet.add("PreviewImage", "Report", room=CHART, images=train[2])


def model_group(sheet):
    sheet.group("1  Model", MODEL_NOTE)
    return sheet.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)


def folder_group(sheet):
    sheet.group(
        "2  Exemplars",
        f"Make a folder `{NAME}` in ComfyUI's `input` folder and put 4 to 10 pictures in it that share the relation "
        "and "
        "little else. Beside each, a text file of the same name says what is on it: `cat {} stone`, with `{}` for the "
        "relation. Press R to see a new folder.\n\n**To change:** `folder`. The report lists what was found.",
    )
    exemplars = sheet.add("ReVersionLoadExemplars", folder=NAME)
    sheet.add("PreviewAny", "What was found", source=exemplars[2])
    sheet.column()
    sheet.add("PreviewImage", "Exemplars", images=exemplars)
    return exemplars


def train_group(sheet, checkpoint, exemplars, number=3, **settings):
    sheet.group(f"{number}  Learn", LEARN_NOTE)
    loaded = {"model": checkpoint, "clip": checkpoint, "vae": checkpoint}
    return sheet.add("ReVersionTrain", **loaded, exemplars=exemplars, **settings)


def load_group(sheet, checkpoint):
    """Returns the CLIP that knows <R>."""
    sheet.group(
        "2  Relation",
        "Choose a relation that you saved (learn one with the first workflow), or any embedding. ReVersion Apply "
        "Relation "
        "teaches the CLIP the word `<R>`.\n\n**To change:** `relation`. For two relations, chain a second Apply with "
        "`<S>`.",
    )
    relation = sheet.add("ReVersionLoadRelation", relation=f"{NAME}.safetensors")
    return sheet.add("ReVersionApplyRelation", clip=checkpoint, relation=relation)


def prompt_group(sheet, checkpoint, clip, prompt, number=3):
    sheet.group(f"{number}  Prompt", PROMPT_NOTE)
    positive = sheet.add("CLIPTextEncode", "Prompt with <R>", clip=clip, text=prompt)
    return positive, sheet.add("CLIPTextEncode", "Negative prompt", clip=checkpoint, text="")


def picture_group(sheet, checkpoint, positive, negative, number=4):
    sheet.group(f"{number}  Picture", PICTURE_NOTE)
    pictures(sheet, checkpoint, positive, negative, filename_prefix="relation")


def pictures(sheet, checkpoint, positive, negative, filename_prefix):
    latent = sheet.add("EmptyLatentImage", width=512, height=512)
    settings = {"seed": 1, "steps": 20, "cfg": 7.5, "sampler_name": "euler", "scheduler": "normal"}
    conditioning = {"positive": positive, "negative": negative}
    latent = sheet.add("KSampler", model=checkpoint, **conditioning, latent_image=latent, **settings)
    sheet.column()
    image = sheet.add("VAEDecode", samples=latent, vae=checkpoint)
    sheet.add("SaveImage", images=image, filename_prefix=filename_prefix)


def sampled(sheet, checkpoint, filename_prefix, **inputs):
    latent = sheet.add("SamplerCustomAdvanced", **inputs)
    sheet.column()
    image = sheet.add("VAEDecode", samples=latent, vae=checkpoint)
    sheet.add("SaveImage", images=image, filename_prefix=filename_prefix)


WORKFLOWS = {
    "1_learn_a_relation": learn_a_relation,
    "2_use_a_relation": use_a_relation,
    "3_learn_and_use": learn_and_use,
    "4_prompt_grid": prompt_grid,
    "5_focal_sampling": focal_sampling,
    "6_exemplars_from_images": exemplars_from_images,
}


def write_inputs(folder):
    """Put drawn exemplars where the workflows look for them, in the host's input folder; returns their captions."""
    write_exemplars(folder / NAME, "above")
    for i, name in enumerate(IMAGES):
        shutil.copy(folder / NAME / f"{i}.png", folder / name)
    captions = json.loads((folder / NAME / "text.json").read_text())
    return [lines[0] for lines in captions.values()]


def as_text(workflow):
    """JSON with every list of plain values on one line."""
    text = json.dumps(workflow, indent=1)
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: re.sub(r"\n\s*", " ", found[0]), text) + "\n"


def in_small(prompt, captions):
    """The prompt with what the miniature needs to draw well."""
    given = SMALL | {"captions": "\n".join(captions[: len(IMAGES)])}
    for node in prompt.values():
        for name, value in node["inputs"].items():
            if name in given:
                value = given[name]
            elif isinstance(value, str):
                for word, known in INSTEAD.items():
                    value = value.replace(word, known)
            node["inputs"][name] = value
    return prompt


def card(images):
    """The drawings in a grid, and below them the top of the first chart."""
    drawings = [image for image in images if image.width <= SMALL["width"]]
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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", action="store_true")
    with_pictures = parser.parse_args().pictures
    FOLDER.mkdir(exist_ok=True)
    with server.Server(base_directory.of("workflows")) as running:
        info, version = running.get("object_info"), running.get("system_stats")["system"]["comfyui_version"]
        captions = write_inputs(running.folder / "input")
        for name, fill in WORKFLOWS.items():
            sheet = Sheet(info, version)
            fill(sheet)
            (FOLDER / f"{name}.json").write_text(as_text(sheet.workflow(name)), encoding="utf-8")
            if with_pictures:
                outputs = running.run(in_small(sheet.prompt(), captions))
                shown = [image for output in outputs.values() for image in output.get("images", [])]
                images = [Image.open(running.picture(image)).convert("RGB") for image in shown]
                card(images).save(FOLDER / f"{name}.jpg", quality=85)


if __name__ == "__main__":
    main()
