"""Groups of nodes, with their notes, that several templates have."""

from typing import Any

from lab.tools.builder import CHECKPOINT, Node, Output, Workflow

EXAMPLE = "example.png"  # the picture that every ComfyUI has in its input folder
NAME = "my-relation"  # of the folder with exemplars, and of the relation that is saved
MODEL_NOTE = (
    "Choose a Stable Diffusion 1.x checkpoint. Use a relation with the one that it was learned with; others of its "
    "family take it too, how well was not measured."
)
LEARN_NOTE = r"""
Learns \<R>; the checkpoint stays as it is. The bar and the curves move from the first step.

**Cancel whenever you like:** what was learned is kept, and the next Run goes on from there. Run again unchanged, and
nothing is learned twice.

**To change:** preset *fast* for a first look. Steps 0 means what the preset says, 400 for *balanced*: write 800 if
\<R> is too weak, 200 if it copies your pictures. Either learns from the beginning.
""".strip()
PROMPT_NOTE = r"""
Write \<R> where the relation stands, between any two things, and go on as you like: *on the beach, photo*.

**To change:** the prompt. If the relation overwhelms the rest, lower *strength* on ReVersion Apply Relation to 0.8.
""".strip()
PICTURE_NOTE = """
An ordinary KSampler.

**To change:** the seed for another picture. 512 x 512 suits Stable Diffusion 1.x best.
""".strip()


def model_group(workflow: Workflow) -> Node:
    workflow.group("1  Model", MODEL_NOTE)
    return workflow.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)


def learning_groups(workflow: Workflow, **settings: Any) -> tuple[Node, Node]:
    """Returns the checkpoint and the trainer; settings: of the trainer."""
    checkpoint = model_group(workflow)
    workflow.group(
        "2  Exemplars",
        f"Make a folder *{NAME}* in ComfyUI's input folder and put 4 to 10 pictures in it that share the relation and "
        "little else. Beside each, a text file of the same name says what is on it: *cat {} stone*, with {} for the "
        "relation. Or write the captions into the box *captions*, a line a picture, in the order of their names. Press "
        "R to see a new folder.\n\n"
        "**To change:** the folder. The report lists what was found.",
    )
    exemplars = workflow.add("ReVersionLoadExemplars", folder=NAME)
    workflow.column()
    workflow.add("PreviewImage", "Exemplars", images=exemplars)
    workflow.column()
    workflow.add("PreviewAny", "What was found", room=200, source=exemplars[2])
    return checkpoint, train_group(workflow, checkpoint, exemplars, **settings)


def train_group(
    workflow: Workflow, checkpoint: Node, exemplars: Node, number: int = 3, note: str = LEARN_NOTE, **settings: Any
) -> Node:
    workflow.group(f"{number}  Learn", note)
    loaded = {"model": checkpoint, "clip": checkpoint, "vae": checkpoint}
    return workflow.add("ReVersionTrain", **loaded, exemplars=exemplars, **settings)


def relation_groups(workflow: Workflow) -> tuple[Node, Node]:
    """Returns the checkpoint and the CLIP that knows <R>."""
    checkpoint = model_group(workflow)
    workflow.group(
        "2  Relation",
        "Choose a relation that you saved (learn one with the first template), or any embedding; press R to see a new "
        r"one. ReVersion Apply Relation teaches the CLIP the word \<R>."
        "\n\n"
        r"**To change:** the relation. For two relations, chain a second Apply with \<S>.",
    )
    relation = workflow.add("ReVersionLoadRelation", relation=f"{NAME}.safetensors")
    return checkpoint, workflow.add("ReVersionApplyRelation", clip=checkpoint, relation=relation)


def prompt_group(workflow: Workflow, checkpoint: Node, clip: Node, prompt: str, number: int = 3) -> tuple[Node, Node]:
    workflow.group(f"{number}  Prompt", PROMPT_NOTE)
    positive = workflow.add("CLIPTextEncode", "Prompt with <R>", clip=clip, text=prompt)
    return positive, workflow.add("CLIPTextEncode", "Negative prompt", clip=checkpoint, text="")


def picture_group(workflow: Workflow, checkpoint: Node, positive: Node, negative: Node, number: int = 4) -> Node:
    """Returns the node that gives the picture."""
    workflow.group(f"{number}  Picture", PICTURE_NOTE)
    return draw(workflow, checkpoint, positive, negative, filename_prefix="relation")


def draw(
    workflow: Workflow,
    checkpoint: Node,
    positive: Node,
    negative: Node,
    filename_prefix: str | Output,
    steps: int = 20,
    batch_size: int = 1,
) -> Node:
    """Returns the node that gives the pictures."""
    latent = workflow.add("EmptyLatentImage", width=512, height=512, batch_size=batch_size)
    settings = {"seed": 1, "steps": steps, "cfg": 7.5, "sampler_name": "euler", "scheduler": "normal"}
    conditioning = {"positive": positive, "negative": negative}
    latent = workflow.add("KSampler", model=checkpoint, **conditioning, latent_image=latent, **settings)
    return save_picture(workflow, checkpoint, latent, filename_prefix)


def save_picture(workflow: Workflow, checkpoint: Node, latent: Node, filename_prefix: str | Output) -> Node:
    """Returns the node that gives the picture."""
    workflow.column()
    image = workflow.add("VAEDecode", samples=latent, vae=checkpoint)
    workflow.add("SaveImage", images=image, filename_prefix=filename_prefix)
    return image
