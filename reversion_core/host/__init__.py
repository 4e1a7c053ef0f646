"""The one place that touches comfy: the host's loaded model, lent to the method."""

from .borrowing import fingerprint, load_for_training
from .families import check_clip, check_fits, check_pair, discrete_sampling, family_of
from .identity import Identity, identity, provenance
from .latents import posterior, scaled_posterior
from .memory import OutOfMemory, empty_cache, tell_memory
from .model import HostModel, borrowing
from .preview import sample
from .sampling import FocalGuider, focal_sampling, focal_sigmas
from .tokens import (
    at_strength,
    caption_windows,
    encoder_keys,
    token_ids,
    token_table,
    vocabulary,
    vocabulary_norm,
    with_relation,
    word_rows,
)

__all__ = [
    "FocalGuider",
    "HostModel",
    "Identity",
    "OutOfMemory",
    "at_strength",
    "borrowing",
    "caption_windows",
    "check_clip",
    "check_fits",
    "check_pair",
    "discrete_sampling",
    "empty_cache",
    "encoder_keys",
    "family_of",
    "fingerprint",
    "focal_sampling",
    "focal_sigmas",
    "identity",
    "load_for_training",
    "posterior",
    "provenance",
    "sample",
    "scaled_posterior",
    "tell_memory",
    "token_ids",
    "token_table",
    "vocabulary",
    "vocabulary_norm",
    "with_relation",
    "word_rows",
]
