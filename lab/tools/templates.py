"""The workflows that the pack ships as templates, each a function that fills a `builder.Workflow`."""

from collections.abc import Callable

from lab.tools import beyond
from lab.tools.builder import Workflow
from lab.tools.groups import (
    EXAMPLE,
    NAME,
    draw,
    learning_groups,
    model_group,
    picture_group,
    prompt_group,
    relation_groups,
    save_picture,
    train_group,
)

REPORT = {"columns": 2, "room": 400}  # twice as wide as high

ONE_PICTURE_NOTE = r"""
Learns \<R> from 8 views of the picture, cut and coloured a little differently, never mirrored; where a caption names a
colour, the colours stay. The checkpoint stays as it is. The node says what it did.

**Cancel whenever you like:** the next Run goes on from there.

**To change:** steps, 200 in this preset: fewer if your prompts come to look like the picture, more if \<R> is too weak.
With 4 pictures or more choose *balanced*.
""".strip()
APPLY_NOTE = r"ReVersion Apply Relation teaches the CLIP the word \<R>."
SAVE_NOTE = r"""
Saves \<R> in the embeddings folder, for the other templates and for embedding:NAME in any prompt.

**To change:** the name, for each relation another. Where another relation has it, the next free name is taken.
""".strip()


def learn_a_relation(workflow: Workflow) -> None:
    checkpoint, train = learning_groups(workflow, previews=100)
    workflow.group(
        "4  Keep it",
        SAVE_NOTE + "\n\n"
        r"**Words near \<R>:** good are words such as *on* or *inside*. If they are things of your pictures, the look "
        "of the pictures leaked in: use pictures that differ more. What they share and no caption names goes into "
        "*extra_negatives* of ReVersion Steering. Write the "
        r"things of your captions into the box to see that \<R> does not lie among them.",
    )
    workflow.add("ReVersionSaveRelation", relation=train, name=NAME)
    inspect = workflow.add("ReVersionInspect", "Words near <R>", relation=train, clip=checkpoint)
    workflow.column()
    workflow.add("PreviewImage", "Where <R> lies", images=inspect)
    workflow.row()
    workflow.group(
        "5  Look at the training",
        "**Report:** the loss jumps about, that is normal.\n\n"
        r"**Previews:** the first caption drawn with \<R>, every 100 steps, from the same noise. Do they come to "
        "show the relation?",
    )
    workflow.add("PreviewImage", "Report", **REPORT, images=train[2])
    workflow.column()
    workflow.add("PreviewImage", "Previews", images=train[3])


def use_a_relation(workflow: Workflow) -> None:
    checkpoint, clip = relation_groups(workflow)
    positive, negative = prompt_group(workflow, checkpoint, clip, "hamburger <R> canvas, on the beach")
    workflow.row()
    picture_group(workflow, checkpoint, positive, negative)


def learn_and_use(workflow: Workflow) -> None:
    checkpoint, train = learning_groups(workflow)
    workflow.group("4  Keep and apply it", SAVE_NOTE + "\n\n" + APPLY_NOTE)
    workflow.add("ReVersionSaveRelation", relation=train, name=NAME)
    clip = workflow.add("ReVersionApplyRelation", clip=checkpoint, relation=train)
    workflow.row()  # in the first one is what speaks: it is seen when the template opens
    positive, negative = prompt_group(workflow, checkpoint, clip, "hamburger <R> canvas, on the beach", number=5)
    picture_group(workflow, checkpoint, positive, negative, number=6)


def prompt_grid(workflow: Workflow) -> None:
    checkpoint, clip = relation_groups(workflow)
    workflow.group(
        "3  Prompts",
        "Writes every subject with every object: here 2 x 2 prompts. Each Run draws one of them, the one that pick "
        "says, and counts pick up. **Set the number beside Run to 4** and run: each picture is saved as soon as it is "
        "drawn, and after a cancel the next Run goes on where it was.\n\n"
        "**To change:** the lists, a word or a phrase a line, and the template. Preset puts in the 100 pairs of a "
        "benchmark relation. Pick 0 begins anew; pick -1 draws all in one run, which saves its pictures at the end.",
    )
    grid = workflow.add(
        "ReVersionPrompts", "Template, subjects and objects", subjects="cat\nhamburger", objects="stone\ncanvas", pick=0
    )
    workflow.column()
    positive = workflow.add("CLIPTextEncode", "Prompt", clip=clip, text=grid)
    negative = workflow.add("CLIPTextEncode", "Negative prompt", clip=checkpoint, text="")
    workflow.row()
    workflow.group(
        "4  Pictures",
        "All pictures have the same seed, so that they can be compared. Each is saved under the name of its prompt.\n\n"
        "**To change:** the seed, then pick 0 and run again for another picture of each.",
    )
    draw(workflow, checkpoint, positive, negative, filename_prefix=grid[1])


def one_picture(workflow: Workflow) -> None:
    checkpoint = model_group(workflow)
    workflow.group(
        "2  The picture",
        "One picture that shows the relation plainly, with both things whole and away from the rim. ComfyUI's example "
        "picture only keeps its place. A second picture goes into the free socket of ReVersion Exemplars.",
    )
    picture = workflow.add("LoadImage", "The picture", image=EXAMPLE)
    workflow.group(
        "3  Captions",
        "All lines are for the one picture. Write two or three, each in other words: both things, {} between them for "
        "the relation, and after it whatever else is seen, so that it is not taken for the relation.\n\n"
        "**To change:** every line. Name a colour only where it has to stay as it is. With a second picture: a line "
        "each.",
    )
    captions = "cat {} stone\na kitten {} a rock, photo\na cat {} a boulder, in a garden"
    exemplars = workflow.add("ReVersionExemplars", "Captions of the picture", captions=captions, images=picture)
    # Higher than elsewhere: it also says which views it learned from.
    train = train_group(workflow, checkpoint, exemplars, 4, ONE_PICTURE_NOTE, preset="one picture", room=720)
    workflow.row()
    workflow.group("5  Keep and apply it", SAVE_NOTE + "\n\n" + APPLY_NOTE)
    workflow.add("ReVersionSaveRelation", relation=train, name=f"{NAME}-from-one-picture")
    clip = workflow.add("ReVersionApplyRelation", clip=checkpoint, relation=train)
    positive, negative = prompt_group(workflow, checkpoint, clip, "hamburger <R> canvas, on the beach", number=6)
    picture_group(workflow, checkpoint, positive, negative, number=7)


def focal_sampling(workflow: Workflow) -> None:
    checkpoint, clip = relation_groups(workflow)
    workflow.group(
        "3  Prompts",
        "The same prompt twice: with \\<R>, and with a plain word in its place. Their difference is what the relation "
        "adds.\n\n**To change:** both prompts, alike but for \\<R>.",
    )
    relation = workflow.add("CLIPTextEncode", "Prompt with <R>", clip=clip, text="hamburger <R> canvas, on the beach")
    plain = workflow.add("CLIPTextEncode", "Plain prompt", clip=checkpoint, text="hamburger and canvas, on the beach")
    negative = workflow.add("CLIPTextEncode", "Negative prompt", clip=checkpoint, text="")
    workflow.row()
    workflow.group(
        "4  The same for both",
        "One noise, one sampler, one size: only the guidance and the schedule differ.\n\n"
        "**To change:** noise_seed for another pair of pictures.",
    )
    shared = {
        "noise": workflow.add("RandomNoise", noise_seed=1),
        "sampler": workflow.add("KSamplerSelect", sampler_name="euler"),
        "latent_image": workflow.add("EmptyLatentImage", width=512, height=512),
    }
    workflow.group(
        "5  Ordinary",
        "Ordinary guidance on the prompt with \\<R> and ComfyUI's *normal* schedule: what KSampler does.",
    )
    ordinary = {
        "guider": workflow.add("CFGGuider", model=checkpoint, positive=relation, negative=negative, cfg=7.5),
        "sigmas": workflow.add("BasicScheduler", model=checkpoint, scheduler="normal", steps=20),
    }
    latent = workflow.add("SamplerCustomAdvanced", **ordinary, **shared)
    save_picture(workflow, checkpoint, latent, "ordinary")
    workflow.group(
        "6  Relation-focal",
        "The relation guides with a strength of its own, most at high noise, where a picture decides how things "
        "stand to each other; more of the steps go there too.\n\n**To change:** raise strength if the relation "
        "is too weak, lower it if the picture breaks. Alpha 0 in both and strength equal to cfg gives the "
        "ordinary picture.",
    )
    guider = {"relation": relation, "plain": plain, "negative": negative, "cfg": 7.5, "strength": 10.0}
    focal = {
        "guider": workflow.add("ReVersionFocalGuider", model=checkpoint, **guider),
        "sigmas": workflow.add("ReVersionFocalScheduler", model=checkpoint, steps=20, alpha=0.5),
    }
    latent = workflow.add("SamplerCustomAdvanced", **focal, **shared)
    save_picture(workflow, checkpoint, latent, "focal")


def exemplars_from_images(workflow: Workflow) -> None:
    checkpoint = model_group(workflow)
    workflow.group(
        "2  Pictures",
        "Choose 4 to 10 pictures that share the relation and little else; ComfyUI's example picture only keeps their "
        "places. For more than four, connect another Load Image to the free socket of ReVersion Exemplars.",
    )
    pictures = {}
    for i in range(4):
        if i:
            workflow.column()
        name = f"picture_{i + 1}" if i else "images"
        pictures[name] = workflow.add("LoadImage", f"Picture {i + 1}", image=EXAMPLE)
    workflow.row()
    workflow.group(
        "3  Captions",
        "A line for each picture, in their order. Name both things; {} stands for the relation.\n\n"
        "**To change:** every line. Another picture needs another line.",
    )
    captions = "cat {} stone\nhamburger {} canvas\nflower {} wall\ndog {} wood"
    exemplars = workflow.add("ReVersionExemplars", "Captions, a line a picture", captions=captions, **pictures)
    train = train_group(workflow, checkpoint, exemplars, number=4)
    workflow.group("5  Keep it", SAVE_NOTE)
    workflow.add("ReVersionSaveRelation", relation=train, name=f"{NAME}-from-images")
    workflow.column()
    workflow.add("PreviewImage", "Report", **REPORT, images=train[2])


def share_a_relation(workflow: Workflow) -> None:
    checkpoint, clip = relation_groups(workflow)
    (relation,) = (node for node in workflow.nodes if node.type == "ReVersionLoadRelation")
    positive, negative = prompt_group(workflow, checkpoint, clip, "hamburger <R> canvas, on the beach")
    workflow.row()
    picture = picture_group(workflow, checkpoint, positive, negative)
    workflow.group(
        "5  The file to send",
        "Saves the relation once more, with this picture and your words for whoever gets it: NAME.safetensors, and "
        "NAME.preview.png beside it in the embeddings folder. Model browsers show both.\n\n"
        "**To change:** name and usage. Your captions are in the file: send none that are private.",
    )
    usage = r"Write <R> between two things, the first of which is to be drawn on the second."
    workflow.add("ReVersionSaveRelation", relation=relation, preview=picture, name=f"{NAME}-shared", usage=usage)


WORKFLOWS: dict[str, Callable[[Workflow], None]] = {
    "1_learn_a_relation": learn_a_relation,
    "2_use_a_relation": use_a_relation,
    "3_learn_and_use": learn_and_use,
    "4_prompt_grid": prompt_grid,
    "5_focal_sampling": focal_sampling,
    "6_exemplars_from_images": exemplars_from_images,
    "7_share_a_relation": share_a_relation,
    # The numbers are the way from the first to the last; these stand beside it.
    "change_a_picture": beyond.change_a_picture,
    "measure_a_relation": beyond.measure_a_relation,
    "one_picture": one_picture,
    "two_relations": beyond.two_relations,
}
