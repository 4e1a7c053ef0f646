"""Train the miniature: `python -m lab.miniature.train`, on the GPU where there is one.

The pool is drawn first; then come the first stage and the denoiser. They are kept in build/miniature on the way, and
the compact weights are written beside this file. A denoiser that was interrupted goes on from where it was. With
`--family sd3` the text encoder is the kept one, and the first stage starts from it.
"""

import argparse
import logging
from pathlib import Path

import torch

from lab.harness import comfyui
from lab.miniature import checkpoints, denoiser, denoising, first_stage, layout, mmdit, pack, pool
from lab.miniature.forms import FORMS, SHARED

FOLDER = comfyui.ROOT / "build" / "miniature"


def compact(stage, average, path):
    """Write the compact weights of a first stage and a denoiser's average."""
    parts = {"vae": first_stage.export(stage)}
    if isinstance(average, mmdit.Denoiser):
        parts["mmdit"] = average.export()
    else:
        parts |= {"text": denoiser.export_text(average.text), "unet": average.unet.state_dict()}
    tensors = {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
    pack.write_compact(tensors, list(denoiser.used_tokens().values()), path)


def trained_before(path=SHARED, channels=first_stage.LATENT_CHANNELS):
    """The first stage and the denoiser of compact weights, to go on from; channels: of the first stage."""
    tensors, _ = pack.read_compact(path)
    parts = {
        part: {n.removeprefix(f"{part}."): t for n, t in tensors.items() if n.startswith(f"{part}.")}
        for part in ("text", "unet", "vae")
    }
    model = denoiser.Denoiser()
    denoiser.load_text(model.text, parts["text"])
    model.unet.load_state_dict(parts["unet"])
    return first_stage.load_exported(parts["vae"], channels), model


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
    parser.add_argument("--family", choices=FORMS, default="sd1")
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
    form, folder = FORMS[arguments.family], FOLDER / arguments.family
    drawn = pool.draw(arguments.groups, form.scale)
    logging.info("%d groups drawn", arguments.groups)
    comfyui.make_importable()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    if arguments.go_on or arguments.family == "sd3":
        stage, model = trained_before(channels=form.channels)
    else:
        stage, model = first_stage.FirstStage(), denoiser.Denoiser()
    sizes = {"steps": arguments.stage_steps, "size": arguments.stage_size, "crops_until": arguments.crops}
    stage = first_stage_of(stage, drawn, folder, device, **sizes)
    latents = pool.encode(stage, drawn, device)
    lesson = denoising.Lesson()
    if arguments.family == "sd3":
        lesson, model = mmdit.LESSON, mmdit.Denoiser(model.text)
        model.standardise(latents.captions[:500, 0].long().cpu())
        mmdit.teach_layout(model.to(device), latents, folder)
    elif not arguments.go_on:
        layout.teach(model.to(device), latents.latents, folder)
    whole = arguments.steps - arguments.whole_window
    given = {"captions": arguments.captions, "peak": arguments.rate, "lesson": lesson}
    average = denoising.train(model, latents, folder, arguments.steps, arguments.decay_steps, whole, **given)
    compact(stage.cpu(), average.cpu(), form.weights[-1])


if __name__ == "__main__":
    main()
