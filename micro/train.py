"""Train the miniature from nothing: `python -m micro.train`. It resumes from build/micro after any interruption.

First stage, latents, denoiser, and then the compact weights beside this file.
"""

import argparse
import logging

import torch

from . import denoiser, first_stage, host, layout, pack

FOLDER = host.ROOT / "build" / "micro"


def compact(stage, average, path=pack.WEIGHTS):
    """Write the compact weights of a first stage and a denoiser's average."""
    parts = {
        "text": denoiser.export_text(average.text),
        "unet": average.unet.state_dict(),
        "vae": first_stage.export(stage),
    }
    tensors = {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
    pack.write_compact(tensors, list(denoiser.used_tokens().values()), path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=denoiser.STEPS, help="of the denoiser")
    parser.add_argument(
        "--decay-steps", type=int, default=denoiser.DECAY_STEPS, help="the last steps, with a falling rate"
    )
    arguments = parser.parse_args()
    host.enter()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    torch.manual_seed(0)
    stage = first_stage.train(FOLDER)
    latents = denoiser.encode_pool(stage, FOLDER)
    model = denoiser.Denoiser()
    layout.teach(model, latents, FOLDER)
    # The host always encodes the whole window: the last steps learn with it.
    whole = arguments.steps - arguments.decay_steps
    average = denoiser.train(model, FOLDER, latents, arguments.steps, arguments.decay_steps, whole_window_from=whole)
    compact(stage, average)


if __name__ == "__main__":
    main()
