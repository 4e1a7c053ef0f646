"""A CLIP that says when a prompt lacks or misspells the words that it knows for relations."""

from collections.abc import Callable

from ..prompts.hints import hint
from .tokens import placeholders_of


class _TellsOfPrompts:
    """Added to the class of a CLIP's tokenizer: every prompt is looked at before the host's own reading of it."""

    def tokenize_with_weights(self, text, *args, **kwargs):
        if isinstance(text, str):
            self.reversion_tell(hint(text, placeholders_of(self)))
        return super().tokenize_with_weights(text, *args, **kwargs)


def with_hints(clip, tell: Callable[[str], None]):
    """The clone from `with_relation`, changed: tell(sentence) is called for every prompt, with "" where none is needed.

    The tokenizer gets a subclass of its class, so that copies of it, and what other nodes do to them, work as before.
    """
    tokenizer = clip.tokenizer
    if not isinstance(tokenizer, _TellsOfPrompts):
        kind = type(tokenizer)
        tokenizer.__class__ = type(kind.__name__, (_TellsOfPrompts, kind), {"__module__": kind.__module__})
    tokenizer.reversion_tell = tell
    return clip
