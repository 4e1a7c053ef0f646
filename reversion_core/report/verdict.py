"""Did it work? What a training says of its relation, from the denoising errors of the exemplars."""

from collections.abc import Mapping
from dataclasses import dataclass

# Ratios, as found on the miniature: they hold for errors of any size. docs/benchmark.md says how well they tell.
UNSAID = 2  # times as far behind R is the best word as the start word, where no word says the relation
LOOK = 0.3  # of what R gains no preposition can say; it tells priors apart better than trainings of one prior
ROUNDING = 1e-5  # of a share of the error
LISTED = 5  # words of the captions that are named


@dataclass(frozen=True)
class Verdict:
    """How much better R explains the exemplars than words do: shares of the denoising error, positive is better.

    start, nearest, best: than the word it started from, the nearest preposition, the best word of the basis, in the
    captions; outside: than the part of R inside the span of the basis, so what the rest of R is good for: a shared look
    has to be there; nearest_word, best_word: which they are; entities: word of the captions -> its cosine to R, most
    like R first; start_word: that it started from; noise: of those four by name, what chance alone may make of them.
    """

    start: float
    nearest: float
    best: float
    outside: float
    nearest_word: str
    best_word: str
    entities: Mapping[str, float]
    start_word: str
    noise: Mapping[str, float]

    @property
    def share_outside(self) -> float:
        """How much of what R gains over the start word is outside of the span of the basis, 0 to 1.

        0 where R gains nothing, and where R is held to the span.
        """
        if min(self.start, self.outside) <= 0:
            return 0.0
        of_outside, of_all = (gain / (1 - gain) for gain in (self.outside, self.start))  # in errors of R
        return min(of_outside / of_all, 1.0)

    @property
    def advice(self) -> str:
        """What to do, in a few words."""
        if self.start < -self.noise["start"]:
            return "a lower learning_rate and more steps: <R> fits worse than at its start"
        if self.best > max(self.noise["best"], UNSAID * self.start):
            return f"look at what <R> draws: no word says this, and <R> fits little better than '{self.start_word}'"
        if self.outside > self.noise["outside"] and self.share_outside > LOOK:
            return "choose prior span, or vary the pictures: <R> carries their look"
        if self.start <= self.noise["start"]:
            return "more steps: <R> fits hardly better than its start"
        if self.best < -self.noise["best"]:
            return f"fine, but try the plain word '{self.best_word}' too: it fits better"
        return "fine"

    def __str__(self) -> str:
        return (
            f"Verdict: {self.advice}. <R> fits your pictures {self._than('start')} '{self.start_word}', which it began "
            f"with, and {self._than('best')} '{self.best_word}', the best plain word."
        )

    @property
    def details(self) -> str:
        """What else was measured, for ReVersion Inspect."""
        words = [f"'{word}' (cosine {cosine:.2f})" for word, cosine in list(self.entities.items())[:LISTED]]
        likest = f" Of the words of the captions it is most like {', '.join(words)}." if words else ""
        if abs(self.outside) < ROUNDING:
            look = "Nothing of it lies outside of the prepositions, as with prior span, so its look was not tested."
        else:
            look = (
                f"Of what it gains over '{self.start_word}', {100 * self.share_outside:.0f}% is nothing that "
                f"prepositions can say; more than {100 * LOOK:.0f}% suggests that it carries their look."
            )
        return (
            f"<R> fits your pictures {self._than('nearest')} '{self.nearest_word}', the nearest preposition. "
            f"{look}{likest}"
        )

    def _than(self, name: str) -> str:
        """A share of the error in words that a word may follow."""
        share = getattr(self, name)
        if abs(share) <= self.noise[name]:
            return "no better than"
        percent = 100 * abs(share)
        digits = f"{percent:.1f}" if percent >= 1 else f"{percent:.2g}"
        return f"{digits}% {'better' if share > 0 else 'worse'} than"
