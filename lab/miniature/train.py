"""Train the miniature: `python -m lab.miniature.train`, on the GPU where there is one.

The pool is drawn first; then come the first stage and the denoiser. They are kept in build/miniature on the way, and
the compact weights are written beside this file. A denoiser that was interrupted goes on from where it was.
"""

import argparse
import logging
from pathlib import Path

import torch

from lab.harness import comfyui
from lab.miniature import checkpoints, denoiser, denoising, first_stage, layout, pack, pool

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


def first_stage_of(
    stage: first_stage.FirstStage, drawn: pool.Pictures, folder: Path, device: torch.device, **training
) -> first_stage.FirstStage:
    """The trained first stage: that of `folder`/first_stage.pt, where there is one."""
    path = folder / "first_stage.pt"
    if (saved := checkpoints.load(path)) is not None:
        stage.load_state_dict(saved)
        return stage.to(device, memory_format=torch.channels_last).eval()
    stage = first_stage.train(stage, drawn, device, **training)
    checkpoints.save(path, stage.state_dict())
    return stage


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=pool.GROUPS, help="of the pool, a multiple of 200")
    parser.add_argument("--stage-steps", type=int, default=4000, help="of the first stage")
    parser.add_argument("--stage-size", type=int, default=32, help="pictures of a step of the first stage")
    parser.add_argument("--crops", type=int, default=3600, help="first of these steps, with parts of pictures")
    parser.add_argument("--steps", type=int, default=denoising.STEPS, help="of the denoiser")
    parser.add_argument("--decay-steps", type=int, default=denoising.DECAY_STEPS, help="the last, with a falling rate")
    parser.add_argument("--whole-window", type=int, default=denoising.WHOLE_STEPS, help="the last, with all 77 tokens")
    parser.add_argument("--captions", type=int, default=32, help="of a step of the denoiser")
    parser.add_argument("--rate", type=float, default=7e-4, help="learning rate of the denoiser")
    parser.add_argument("--go-on", action="store_true", help="start from the weights beside this file")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    drawn = pool.draw(arguments.groups)
    logging.info("%d groups drawn", arguments.groups)
    comfyui.enter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    if arguments.go_on:
        stage, model = trained_before()
    else:
        stage, model = first_stage.FirstStage(), denoiser.Denoiser()
    sizes = {"steps": arguments.stage_steps, "size": arguments.stage_size, "crops_until": arguments.crops}
    stage = first_stage_of(stage, drawn, FOLDER, device, **sizes)
    latents = pool.encode(stage, drawn, device)
    model = model.to(device)
    if not arguments.go_on:
        layout.teach(model, latents.latents, FOLDER)
    whole = arguments.steps - arguments.whole_window
    sizes = {"captions": arguments.captions, "peak": arguments.rate}
    average = denoising.train(model, latents, FOLDER, arguments.steps, arguments.decay_steps, whole, **sizes)
    compact(stage.cpu(), average.cpu())


if __name__ == "__main__":
    main()
