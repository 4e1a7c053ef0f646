"""The one place that touches comfy: the host's loaded model, lent to the method."""

from .borrowing import fingerprint
from .encoders import (
    encoder_keys,
    learning_rate_unit,
    token_ids,
    token_table,
    vocabulary,
    vocabulary_norm,
    word_rows,
)
from .families import check_clip, check_fits, check_pair, discrete_sampling, family_of
from .identity import identity, provenance
from .latents import posterior, scaled_posterior
from .loading import load_for_training
from .memory import empty_cache, is_out_of_memory, out_of_memory_told
from .model import HostModel, borrowing
from .plan import MemoryPlan, memory_plan, tell_memory
from .preview import sample
from .sampling import FocalGuider, focal_sigmas
from .selfcheck import check_gradients
from .tokens import at_strength, caption_tokens, with_relation

__all__ = [
    "FocalGuider",
    "HostModel",
    "MemoryPlan",
    "at_strength",
    "borrowing",
    "caption_tokens",
    "check_clip",
    "check_fits",
    "check_gradients",
    "check_pair",
    "discrete_sampling",
    "empty_cache",
    "encoder_keys",
    "family_of",
    "fingerprint",
    "focal_sigmas",
    "identity",
    "is_out_of_memory",
    "out_of_memory_told",
    "provenance",
    "load_for_training",
    "memory_plan",
    "learning_rate_unit",
    "posterior",
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
