"""Graphs in the host's API format, as the demo, the benchmark and the tests queue them."""

from lab.harness.server import CHECKPOINT


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def learn(folder, **train):
    """Checkpoint -> exemplars -> training; node ids "checkpoint", "exemplars", "train"."""
    return {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
        "exemplars": node("ReVersionLoadExemplars", folder=folder, size=0, fit="crop"),
        "train": node(
            "ReVersionTrain",
            model=["checkpoint", 0],
            clip=["checkpoint", 1],
            vae=["checkpoint", 2],
            exemplars=["exemplars", 0],
            **{
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
                **train,
            },
        ),
    }


def draw(name, prompt, seed, clip=("checkpoint", 1), steps=20, cfg=4.0, count=1, sampler="euler", scheduler="normal"):
    """Host nodes that sample 64 x 64 pictures of a prompt and save them under `name`; the last id is `name`."""
    return {
        f"{name}-text": node("CLIPTextEncode", text=prompt, clip=list(clip)),
        "no-text": node("CLIPTextEncode", text="", clip=["checkpoint", 1]),
        f"{name}-latent": node("EmptyLatentImage", width=64, height=64, batch_size=count),
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
