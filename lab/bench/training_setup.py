"""A checkpoint as the host loads it and a training at the published setting, for `make speed`."""

import contextlib
import dataclasses
from typing import Any

import numpy as np
import torch

from lab.bench import random_checkpoints
from lab.harness import comfyui, server
from lab.miniature import placing, world
from reversion_core.exemplars import Exemplars
from reversion_core.method.focal import Focal
from reversion_core.method.steering import Steering
from reversion_core.training.inputs import TrainingInputs
from reversion_core.training.settings import PRECISIONS, PRESETS

FULL_SIZE = "SD 1.5"  # the architecture that is measured beside the miniature
RECOMPUTED = ", checkpointing"  # behind a precision: blocks are computed again in the backward pass
BATCH_SIZE = 2
ACCUMULATION = 4


def accumulation_of(full_size: bool) -> int:
    """Batches in an update: the published 4; one at full size on a CPU, where a picture takes most of a minute."""
    return 1 if full_size and not torch.cuda.is_available() else ACCUMULATION


def exemplars(side: int, count: int = 8) -> Exemplars:
    """Drawings of "above" to train on at side x side pixels, a caption each."""
    rng = np.random.default_rng(4)
    scenes = [placing.arrange("above", *world.random_pair(rng), rng) for _ in range(count)]
    captions = tuple((f"{scene.pair[0]} {{}} {scene.pair[1]}",) for scene in scenes)
    return Exemplars(tuple(map(str, range(count))), tuple(map(world.render, scenes)), captions, side)


class TrainingSetup:
    """The miniature, or at `full_size` Stable Diffusion 1.5 with random weights, and what a learner of it needs."""

    def __init__(self, full_size: bool = False, batch_size: int = BATCH_SIZE, accumulation: int | None = None):
        comfyui.make_importable()
        import comfy.model_management
        import comfy.sd

        from reversion_core import host as core_host
        from reversion_core.training import loop, prepare

        self.host, self.prepare, self.loop = core_host, prepare, loop
        self.device = comfy.model_management.get_torch_device()
        if full_size:
            path = random_checkpoints.write_checkpoint(FULL_SIZE)
            side = random_checkpoints.ARCHITECTURES[FULL_SIZE].side
        else:
            path, side = server.miniature(), world.SIDE
        with torch.inference_mode():
            self.model, self.clip, self.vae, _ = comfy.sd.load_checkpoint_guess_config(str(path))
        accumulation = accumulation or accumulation_of(full_size)
        settings = dataclasses.replace(PRESETS["paper"], batch_size=batch_size, accumulation=accumulation)
        self.inputs = TrainingInputs(exemplars(side), settings, Steering(), Focal())
        self.tokens = prepare.check(self.model, self.clip, self.vae, self.inputs, "speed").tokens
        self.pixels = torch.from_numpy(self.inputs.exemplars.fitted(side))
        with torch.inference_mode():
            self.mean, self.std, _ = core_host.scaled_posterior(self.model, self.vae, self.pixels)
        self.model, self.clip = core_host.load_for_training(self.model, self.clip, "speed")

    def borrowing(self, kind: str = "fp32") -> contextlib.AbstractContextManager:
        """The loaded model as the trainer sees it. kind: a precision, with `RECOMPUTED` behind it or without."""
        precision = kind.removesuffix(RECOMPUTED)
        return self.host.borrowed_model(self.model, self.clip, self.tokens, PRECISIONS[precision], kind != precision)

    def learner(self, model: Any):
        """A `Learner` at the start; model: from `borrowed_model`."""
        data = self.prepare.training_data(self.clip, self.inputs, self.mean, self.std)
        initial = {"clip_l": self.host.word_rows(self.clip, "clip_l", [self.inputs.settings.initial_word]).cpu()}
        return self.loop.Learner(model, data, self.inputs, initial)

    def networks(self) -> tuple[torch.nn.Module, ...]:
        return self.model.model.diffusion_model, self.clip.cond_stage_model, self.vae.first_stage_model

    def synchronise(self) -> None:
        """Wait until the device has done everything, so that a clock can be read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
