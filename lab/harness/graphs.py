"""Graphs in the host's API format, as the demo, the benchmarks and the tests queue them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.harness.server import CHECKPOINT

Graph = dict[str, dict[str, Any]]  # node id -> its class and inputs
Link = Sequence[str | int]  # (node id, number of its output)

PROBE = Path(__file__).with_name("reversion_probe")  # a folder of custom nodes, for `Server(more_nodes=...)`

# The API format takes no defaults: every required input is written out.
TRAIN_WIDGETS = {
    "preset": "balanced",
    "steps": 0,
    "batch_size": 0,
    "accumulation": 0,
    "learning_rate": 0.0,
    "schedule": "preset",
    "initial_word": "and",
    "vectors": 1,
    "norm": "preset",
    "precision": "preset",
    "training_seed": 0,
    "previews": 0,
    "preview_prompt": "",
    "autosave": 50,
    "resume": True,
}


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def learn(folder: str, size: int = 0, checkpoint: str = CHECKPOINT, **train: Any) -> Graph:
    """Checkpoint -> exemplars -> training; node ids "checkpoint", "exemplars", "train".

    folder, size: inputs of ReVersion Load Exemplars; train: inputs of ReVersion Train that differ from the defaults.
    """
    return {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name=checkpoint),
        "exemplars": node("ReVersionLoadExemplars", folder=folder, size=size, fit="crop"),
        "train": node(
            "ReVersionTrain",
            model=["checkpoint", 0],
            clip=["checkpoint", 1],
            vae=["checkpoint", 2],
            exemplars=["exemplars", 0],
            **{**TRAIN_WIDGETS, **train},
        ),
    }


def probe() -> Graph:
    """Hashes of the checkpoint's weights and of the global random states, by the custom node in `PROBE`; id "probe"."""
    return {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
        "probe": node("ReVersionProbe", model=["checkpoint", 0], clip=["checkpoint", 1], vae=["checkpoint", 2]),
    }


def save(name: str, relation: Link = ("train", 0)) -> dict[str, Any]:
    """ReVersion Save Relation, over a relation of the same name."""
    return node("ReVersionSaveRelation", relation=list(relation), name=name, overwrite=True)


def apply(relation: Link = ("train", 0)) -> dict[str, Any]:
    """ReVersion Apply Relation: its output 0 is the checkpoint's CLIP, which now knows `<R>`."""
    return node(
        "ReVersionApplyRelation", clip=["checkpoint", 1], relation=list(relation), placeholder="<R>", strength=1.0
    )


def draw(
    name: str,
    prompt: str | Link,
    seed: int,
    clip: Link = ("checkpoint", 1),
    steps: int = 20,
    cfg: float = 4.0,
    count: int = 1,
    sampler: str = "euler",
    scheduler: str = "normal",
    side: int = 64,
) -> Graph:
    """Host nodes that sample `count` square pictures of a prompt and save them under `name`; the last id is `name`."""
    return {
        f"{name}-text": node("CLIPTextEncode", text=prompt, clip=list(clip)),
        "no-text": node("CLIPTextEncode", text="", clip=["checkpoint", 1]),
        f"{name}-latent": node("EmptyLatentImage", width=side, height=side, batch_size=count),
        f"{name}-sample": node(
            "KSampler",
            model=["checkpoint", 0],
            seed=seed,
            steps=steps,
            cfg=cfg,
            sampler_name=sampler,
            scheduler=scheduler,
            positive=[f"{name}-text", 0],
            negative=["no-text", 0],
            latent_image=[f"{name}-latent", 0],
            denoise=1.0,
        ),
        f"{name}-picture": node("VAEDecode", samples=[f"{name}-sample", 0], vae=["checkpoint", 2]),
        name: node("SaveImage", images=[f"{name}-picture", 0], filename_prefix=f"drawn/{name}"),
    }
