"""Did it work? What a training says of its relation, from the denoising errors of the exemplars."""

from collections.abc import Mapping
from dataclasses import dataclass

# Shares of the error, as found on the miniature; docs/benchmark.md says how well the verdict tells.
LITTLE = 0.005  # an improvement below it is noise
UNSAID = 2  # times as far behind R is the best word as the start word, where no word says the relation
LOOK = 0.1  # so much better by what no preposition says; it tells priors apart, not trainings of one prior
LISTED = 5  # words of the captions that are named


@dataclass(frozen=True)
class Verdict:
    """How much better R explains the exemplars than words do: shares of the denoising error, positive is better.

    start, nearest, best: than the word it started from, the nearest preposition, the best word of the basis, in the
    captions; outside: than the part of R inside the span of the basis, so what the rest of R is good for: a shared look
    has to be there; nearest_word, best_word: which they are; entities: word of the captions -> its cosine to R, most
    like R first; start_word: that it started from.
    """

    start: float
    nearest: float
    best: float
    outside: float
    nearest_word: str
    best_word: str
    entities: Mapping[str, float]
    start_word: str = "and"

    @property
    def advice(self) -> str:
        """What to do, in a few words."""
        if self.start < -LITTLE:
            return "a lower learning_rate and more steps: <R> fits worse than at its start"
        if self.best > max(LITTLE, UNSAID * self.start):
            return f"look at what <R> draws: no word says this, and <R> fits little better than '{self.start_word}'"
        if self.outside > LOOK:  # where R is held to the span it is 0, and nothing is known of the look
            return "choose prior span, or vary the pictures: <R> carries their look"
        if self.start < LITTLE:
            return "more steps: <R> hardly differs from its start"
        if self.best < -LITTLE:
            return f"fine, but try the plain word '{self.best_word}' too: it fits better"
        return "fine"

    def __str__(self) -> str:
        return (
            f"Verdict: {self.advice}. <R> fits your pictures {_than(self.start)} '{self.start_word}', which it began "
            f"with, and {_than(self.best)} '{self.best_word}', the best plain word."
        )

    @property
    def details(self) -> str:
        """What else was measured, for ReVersion Inspect."""
        words = [f"'{word}' (cosine {cosine:.2f})" for word, cosine in list(self.entities.items())[:LISTED]]
        likest = f" Of the words of the captions it is most like {', '.join(words)}." if words else ""
        return (
            f"<R> fits your pictures {_than(self.nearest)} '{self.nearest_word}', the nearest preposition, and "
            f"{_than(self.outside)} the part of it that prepositions can say; much better would mean that it carries "
            f"their look.{likest}"
        )


def _than(share: float) -> str:
    """A share of the error in words that a word may follow."""
    if abs(share) < LITTLE:
        return "no better than"
    return f"{100 * abs(share):.1f}% {'better' if share > 0 else 'worse'} than"
