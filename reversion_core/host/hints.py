"""A CLIP that says when a prompt lacks or misspells the words that it knows for relations."""

import logging
from collections.abc import Callable

from ..prompts.hints import hint
from .subclassing import with_added
from .tokens import placeholders_of


class _TellsOfPrompts:
    """Added to the class of a CLIP's tokenizer: every prompt is looked at before the host's own reading of it."""

    forgotten_in_copies = frozenset(["reversion_said"])

    def tokenize_with_weights(self, text, *args, **kwargs):
        if isinstance(text, str):
            said = hint(text, placeholders_of(self))
            if said and said not in self._said_before():
                logging.info("ReVersion: %s", said)
                self._said_before().add(said)
            self.reversion_tell(said)
        return super().tokenize_with_weights(text, *args, **kwargs)

    def _said_before(self):
        return vars(self).setdefault("reversion_said", set())


def with_hints(clip, tell: Callable[[str], None]):
    """The clone from `with_relation`, changed: tell(sentence) is called for every prompt, with "" where none is needed.

    Each sentence is written to the log once: the host's nodes read a prompt more than once. The tokenizer gets a
    subclass of its class, so that copies of it, and what other nodes do to them, work as before.
    """
    clip.tokenizer.__class__ = with_added(_TellsOfPrompts, type(clip.tokenizer))
    clip.tokenizer.reversion_tell = tell
    return clip
