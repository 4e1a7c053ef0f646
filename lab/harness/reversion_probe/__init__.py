"""A custom node for the tests and `lab.bench.soak`: reports a hash of every weight and of the global random states."""

import hashlib
import random

import numpy
import torch

from .judge import ReVersionJudge


class ReVersionProbe:
    CATEGORY = "tests"
    FUNCTION = "probe"
    OUTPUT_NODE = True
    RETURN_TYPES = ()

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"model": ("MODEL",), "clip": ("CLIP",), "vae": ("VAE",)},
            "optional": {"after": ("*",)},
        }

    @classmethod
    def IS_CHANGED(cls, **inputs):
        return float("nan")

    def probe(self, model, clip, vae, after=None):
        digest = hashlib.sha256()
        for module in (model.model, clip.cond_stage_model, vae.first_stage_model):
            for name, tensor in sorted(module.state_dict().items()):
                if "text_projection" in name:
                    continue  # the host leaves it as the memory was, anew at every load
                data = tensor.contiguous().cpu().flatten().view(torch.uint8).numpy().tobytes()
                digest.update(name.encode() + data)
        states = torch.get_rng_state().tolist(), numpy.random.get_state()[1].tolist(), random.getstate()
        randomness = hashlib.sha256(repr(states).encode())
        return {"ui": {"weights": [digest.hexdigest()], "randomness": [randomness.hexdigest()]}}


NODE_CLASS_MAPPINGS = {"ReVersionProbe": ReVersionProbe, "ReVersionJudge": ReVersionJudge}
