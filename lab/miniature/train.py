"""Train the miniature from nothing: `python -m lab.miniature.train`. It resumes after any interruption.

First stage, latents and denoiser, kept in build/miniature on the way, and then the compact weights beside this file.
"""

import argparse
import logging

import torch

from lab.harness import comfyui
from lab.miniature import denoiser, denoising, first_stage, layout, pack, pool

FOLDER = comfyui.ROOT / "build" / "miniature"


def compact(stage, average, path=pack.WEIGHTS):
    """Write the compact weights of a first stage and a denoiser's average."""
    parts = {
        "text": denoiser.export_text(average.text),
        "unet": average.unet.state_dict(),
        "vae": first_stage.export(stage),
    }
    tensors = {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
    pack.write_compact(tensors, list(denoiser.used_tokens().values()), path)


def trained_before(path=pack.WEIGHTS):
    """The first stage and the denoiser of compact weights, to go on from."""
    tensors, _ = pack.read_compact(path)
    parts = {
        part: {n.removeprefix(f"{part}."): t for n, t in tensors.items() if n.startswith(f"{part}.")}
        for part in ("text", "unet", "vae")
    }
    model = denoiser.Denoiser()
    denoiser.load_exported(model, parts["text"], parts["unet"])
    return first_stage.load_exported(parts["vae"]), model


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=denoising.STEPS, help="of the denoiser")
    parser.add_argument("--decay-steps", type=int, default=denoising.DECAY_STEPS, help="the last, with a falling rate")
    parser.add_argument("--whole-window", type=int, default=denoising.WHOLE_STEPS, help="the last, with all 77 tokens")
    parser.add_argument("--go-on", action="store_true", help="start from the weights beside this file")
    arguments = parser.parse_args()
    comfyui.enter()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    torch.manual_seed(0)
    if arguments.go_on:
        stage, model = trained_before()
        latents = pool.encode(stage, FOLDER)
    else:
        stage, model = first_stage.train(FOLDER), denoiser.Denoiser()
        latents = pool.encode(stage, FOLDER)
        layout.teach(model, latents, FOLDER)
    whole = arguments.steps - arguments.whole_window
    average = denoising.train(model, FOLDER, latents, arguments.steps, arguments.decay_steps, whole)
    compact(stage, average)


if __name__ == "__main__":
    main()
