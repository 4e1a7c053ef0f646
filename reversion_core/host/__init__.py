"""The one place that touches comfy: the host's loaded model, lent to the method."""

from .encoders import (
    encoder_keys,
    learning_rate_unit,
    token_ids,
    token_table,
    vocabulary,
    vocabulary_norm,
    word_rows,
)
from .families import check_clip, check_fits, check_pair, family_of, usual_alpha
from .hints import with_hints
from .identity import identity, provenance
from .latents import posterior, scaled_posterior
from .loading import load_for_training, unload_twins
from .memory import empty_cache, is_interruption, is_out_of_memory, out_of_memory_told
from .model import HostModel, borrowing
from .naming import Naming
from .plan import MemoryPlan, memory_plan, tell_memory
from .preview import sample
from .sampling import FocalGuider, focal_sampling, focal_sigmas
from .selfcheck import check_conditions, check_gradients
from .tokens import at_strength, caption_tokens, part_read, placeholders, with_relation

__all__ = [
    "FocalGuider",
    "HostModel",
    "MemoryPlan",
    "Naming",
    "at_strength",
    "borrowing",
    "caption_tokens",
    "check_clip",
    "check_conditions",
    "check_fits",
    "check_gradients",
    "check_pair",
    "empty_cache",
    "encoder_keys",
    "family_of",
    "focal_sampling",
    "focal_sigmas",
    "identity",
    "is_interruption",
    "is_out_of_memory",
    "memory_plan",
    "learning_rate_unit",
    "load_for_training",
    "out_of_memory_told",
    "part_read",
    "placeholders",
    "posterior",
    "provenance",
    "sample",
    "scaled_posterior",
    "tell_memory",
    "unload_twins",
    "usual_alpha",
    "token_ids",
    "token_table",
    "vocabulary",
    "vocabulary_norm",
    "with_hints",
    "with_relation",
    "word_rows",
]
