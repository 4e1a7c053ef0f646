"""What identifies the host's loaded models."""

from dataclasses import dataclass

from .borrowing import fingerprint


@dataclass(frozen=True)
class ModelIdentity:
    parts: dict
    unnamed: tuple = ()


def identity(model, clip, vae):
    modules = model.model.diffusion_model, clip.cond_stage_model, vae.first_stage_model
    return ModelIdentity({"model": fingerprint(*modules), "clip skip": str(clip.layer_idx)})


def provenance(model, clip):
    return {}
