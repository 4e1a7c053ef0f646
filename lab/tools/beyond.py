"""Templates for what one does with relations beyond learning and using one: change a picture, join two, measure."""

from lab.tools.builder import Workflow
from lab.tools.groups import EXAMPLE, NAME, draw, model_group, picture_group, relation_groups, save_picture

OTHER = "my-other-relation"
CLIP_FOLDER = "clip-vit-base-patch32"  # of the CLIP that measures
CHANGE_NOTE = r"""
The sampler first runs backwards with the plain prompt, then forwards with \<R>. Nothing is random: the same picture
comes out each time.

**To change:** *denoise* of BasicScheduler. 0.95 changes the relation most surely; at 0.75 the things stay themselves,
but more often as they stand.
""".strip()
TOGETHER_NOTE = r"""
Write both words where they stand between things. Both are read together and may disturb each other.

**To change:** if one takes over, change the order of the two words, or write each into a prompt of its own and join the
two with ConditioningAverage at 0.5.
""".strip()


def change_a_picture(workflow: Workflow) -> None:
    checkpoint, clip = relation_groups(workflow)
    workflow.group(
        "3  Your picture",
        "A picture of two things; its middle is taken, as large as your checkpoint draws.\n\n**To change:** the "
        "picture, and the plain prompt beside it: what it shows, background and colours too.",
    )
    picture = workflow.add("LoadImage", "Picture to change", image=EXAMPLE)
    size = {"upscale_method": "lanczos", "width": 512, "height": 512, "crop": "center"}
    picture = workflow.add("ImageScale", image=picture, **size)
    workflow.group("4  Prompts", "The same words twice: as it is now, and with \\<R>; and what is not wanted.")
    plain = workflow.add("CLIPTextEncode", "What it shows", clip=checkpoint, text="hamburger and canvas, on the beach")
    relation = workflow.add("CLIPTextEncode", "Prompt with <R>", clip=clip, text="hamburger <R> canvas, on the beach")
    negative = workflow.add("CLIPTextEncode", "Negative prompt", clip=checkpoint, text="")
    workflow.row()
    workflow.group("5  Back to the noise that would give this picture, and forward again with <R>", CHANGE_NOTE)
    latent = workflow.add("VAEEncode", pixels=picture, vae=checkpoint)
    sigmas = workflow.add("BasicScheduler", model=checkpoint, scheduler="normal", steps=20, denoise=0.95)
    back = workflow.add("FlipSigmas", sigmas=sigmas)
    sampler = workflow.add("KSamplerSelect", sampler_name="euler")
    shared = {"model": checkpoint, "add_noise": False, "noise_seed": 0, "negative": negative, "sampler": sampler}
    workflow.column()
    latent = workflow.add(
        "SamplerCustom", "Back to noise", **shared, positive=plain, cfg=1.0, sigmas=back, latent_image=latent
    )
    workflow.column()
    latent = workflow.add(
        "SamplerCustom", "Forward with <R>", **shared, positive=relation, cfg=7.5, sigmas=sigmas, latent_image=latent
    )
    save_picture(workflow, checkpoint, latent, "changed")


def two_relations(workflow: Workflow) -> None:
    checkpoint = model_group(workflow)
    workflow.group(
        "2  Relations",
        "Choose two relations that you saved, each learned from pictures of its own. Each ReVersion Apply Relation "
        r"teaches the CLIP one more word: the first \<R>, the second \<S>.",
    )
    clip = checkpoint
    for placeholder, name in (("<R>", NAME), ("<S>", OTHER)):
        relation = workflow.add("ReVersionLoadRelation", f"Relation {placeholder}", relation=f"{name}.safetensors")
        clip = workflow.add("ReVersionApplyRelation", clip=clip, relation=relation, placeholder=placeholder)
        workflow.column()
    workflow.group("3  Prompt", TOGETHER_NOTE)
    positive = workflow.add(
        "CLIPTextEncode", "Prompt with <R> and <S>", clip=clip, text="hamburger <R> canvas <S> stone"
    )
    negative = workflow.add("CLIPTextEncode", "Negative prompt", clip=checkpoint, text="")
    workflow.row()
    picture_group(workflow, checkpoint, positive, negative)


def measure_a_relation(workflow: Workflow) -> None:
    checkpoint, clip = relation_groups(workflow)
    workflow.group(
        "3  Prompts",
        "Pairs of things with \\<R> between them: 10 of a list of 100. Each Run draws one prompt, the one that pick "
        "says, and counts pick up. **Set the number beside Run to 10** and run. Cancel whenever you like: what was "
        "drawn is measured and kept, and once the queue is empty pick shows where to go on.\n\n"
        "**To change:** preset, for the list of your relation, or your own lists; limit 0 for all pairs. Pick 0 begins "
        "anew.",
    )
    grid = workflow.add("ReVersionPrompts", preset="painted_on", limit=10, order_seed=1, pick=0)
    workflow.column()
    positive = workflow.add("CLIPTextEncode", "Prompt with <R>", clip=clip, text=grid)
    negative = workflow.add("CLIPTextEncode", "Negative prompt", clip=checkpoint, text="")
    workflow.row()
    workflow.group(
        "4  Pictures",
        "Four pictures of each prompt, each from a noise of its own, with 50 steps and cfg 7.5 as in the paper.\n\n"
        "**To change:** batch_size 10 for ten pictures of each, as in the paper. Keep the rest for all that you "
        "compare.",
    )
    image = draw(workflow, checkpoint, positive, negative, filename_prefix=grid[1], steps=50, batch_size=4)
    workflow.group(
        "5  Measure",
        "A CLIP on your disk compares each picture with words (the help page says where to get one). **Relation:** "
        "above 0 where the pictures look more like *cat painted on stone* than like *stone painted on cat*. "
        "**Entity:** how much they look like both things. In brackets: where the mean of other prompts and noises "
        "would lie, 95 times in 100.\n\n"
        "The numbers say nothing alone. **Compare** them with those of a plain word, measured in the same way with the "
        "same CLIP: write *{subject} painted on {object}* into template, *painted on* into placeholder, another name "
        "into name, pick 0, and run again. Where the brackets lie apart, \\<R> and the word differ.\n\n"
        "**To change:** phrase, what \\<R> should mean; name, for each relation and each setting another.",
    )
    score = {"phrase": "painted on", "clip_folder": CLIP_FOLDER, "name": f"{NAME}-scores", "add_to_table": True}
    workflow.add("ReVersionScore", columns=2, images=image, prompts=grid, **score)
