"""Everything the core needs of ComfyUI's own modules; outside this package only nodes/progress.py imports comfy."""

from .compatibility import check_clip, check_fits, check_pair, family_of, usual_alpha
from .encoders import (
    encoder_keys,
    learning_rate_unit,
    token_ids,
    token_table,
    vocabulary,
    vocabulary_norm,
    word_rows,
)
from .fingerprint import Fingerprinter
from .hints import with_hints
from .identity import model_identity, provenance
from .latents import posterior, scaled_posterior
from .loading import (
    can_take_turns,
    fit_together,
    load_for_training,
    slow_encoders,
    unload_others,
    unload_twins,
)
from .memory import empty_cache, is_interruption, is_out_of_memory, out_of_memory_as
from .model import HostModel, borrowed_model
from .plan import logged_memory_plan
from .preview import draw_preview
from .sampling import FocalGuider, focal_sampling, focal_sigmas
from .selfcheck import check_conditions, check_gradients
from .tokens import at_strength, caption_tokens, encoded_part, is_in_first_window, placeholders, with_relation

__all__ = [
    "Fingerprinter",
    "FocalGuider",
    "HostModel",
    "at_strength",
    "borrowed_model",
    "can_take_turns",
    "caption_tokens",
    "check_clip",
    "check_conditions",
    "check_fits",
    "check_gradients",
    "check_pair",
    "draw_preview",
    "empty_cache",
    "encoded_part",
    "encoder_keys",
    "family_of",
    "fit_together",
    "focal_sampling",
    "focal_sigmas",
    "is_in_first_window",
    "is_interruption",
    "is_out_of_memory",
    "model_identity",
    "learning_rate_unit",
    "load_for_training",
    "logged_memory_plan",
    "out_of_memory_as",
    "placeholders",
    "posterior",
    "provenance",
    "scaled_posterior",
    "slow_encoders",
    "unload_others",
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
