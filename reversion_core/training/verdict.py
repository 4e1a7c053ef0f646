"""How well R explains the exemplars beside words, on draws of noise that it was not trained with."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from ..method.prior import project
from ..report.verdict import Verdict
from .losses import DenoisingErrors
from .step import draw_update

DRAWS, SCREENING_DRAWS, FINALISTS = 24, 6, 4
ENCODED_AT_ONCE = 32  # captions: network and text encoders may have to change places for each such group
# About 350 pictures go forward through the network, as many as a few dozen train on.
SMALLEST_TRAINING = 400  # pictures; a shorter one has no verdict
_HELD_OUT = 0x5EED  # added to the training's seed


class _Judge:
    """The errors of the same draws with any vectors in R's place."""

    def __init__(self, learner):
        self.model, self.data, inputs = learner.model, learner.data, learner.inputs
        generator = torch.Generator().manual_seed((inputs.settings.seed + _HELD_OUT) % 2**63)
        self.batches, remaining = [], []
        while sum(len(batch.captions) for batch in self.batches) < DRAWS:
            self.batches += draw_update(self.data, inputs, learner.cdf, remaining, generator)
        self.pass_size = learner.samples_per_pass

    @torch.no_grad()
    def errors(self, relations: dict[str, dict[str, torch.Tensor]], draws: int = DRAWS) -> dict[str, torch.Tensor]:
        """Name -> float32 [draws] of some vectors; relations: name -> encoder key -> float32 [k, d]."""
        pieces, count = [], 0
        for piece in (piece for batch in self.batches for piece in batch.split(self.pass_size)):
            if count < draws:
                pieces.append(piece)
                count += len(piece.captions)
        templates = sorted({template for piece in pieces for template in piece.captions})
        names, at_once, found = list(relations), max(ENCODED_AT_ONCE // len(templates), 1), {}
        for some in (names[i : i + at_once] for i in range(0, len(names), at_once)):
            features = {name: self._encoded(templates, relations[name]) for name in some}
            for name in some:
                errors = [DenoisingErrors(self.model, self.data, piece, features[name]) for piece in pieces]
                found[name] = torch.cat([of_piece.for_captions.cpu() for of_piece in errors])[:draws]
        return found

    def _encoded(self, templates, vectors):
        """Number of a template -> its text features, in ordinary memory."""
        return {
            template: {name: value.cpu() if torch.is_tensor(value) else value for name, value in of_one.items()}
            for template, of_one in zip(templates, self.model.encode(templates, vectors), strict=True)
        }


def judge(learner, start: dict[str, torch.Tensor], tell: Callable[[str], None] = lambda text: None) -> Verdict | None:
    """The Verdict on a learner's R, inside `host.borrowed_model`; None for a training too short to be worth it.

    start: the initial word as R, encoder key -> float32 [k, d], which the prior may move before the first update;
    tell: says to the artist what takes its time.
    """
    settings, data = learner.inputs.settings, learner.data
    if settings.steps * settings.batch_size * settings.accumulation < SMALLEST_TRAINING:
        return None
    tell("learned; now <R> is compared with words")
    words = _rows_of(learner.inputs.steering.basis, data.basis_rows)
    of_captions = {data.negative_words[number] for of_one in data.negatives for number in of_one}
    entities = {w: rows for w, rows in _rows_of(data.negative_words, data.negative_rows).items() if w in of_captions}
    bench, vectors = _Judge(learner), learner.vectors
    count = len(next(iter(vectors.values())))
    as_relation = {word: {key: row.expand(count, -1) for key, row in rows.items()} for word, rows in words.items()}

    def cosine(rows):
        return float(
            torch.stack([F.cosine_similarity(v.mean(0), rows[key][0], dim=0) for key, v in vectors.items()]).mean()
        )

    inside = {key: project(v, data.span[key]) for key, v in vectors.items()}
    ours = bench.errors({"R": vectors, "start": start, "inside": inside})
    nearest = max(words, key=lambda word: cosine(words[word]))
    screened = {w: float(errors.log().mean()) for w, errors in bench.errors(as_relation, SCREENING_DRAWS).items()}
    finalists = {*sorted(screened, key=screened.get)[:FINALISTS], nearest}
    of_words = bench.errors({word: as_relation[word] for word in sorted(finalists)})
    best = min(of_words, key=lambda word: float(of_words[word].log().mean()))
    likeness = sorted(((word, cosine(rows)) for word, rows in entities.items()), key=lambda pair: -pair[1])
    others = {"start": ours["start"], "nearest": of_words[nearest], "best": of_words[best], "outside": ours["inside"]}
    gains = {name: gain(ours["R"], errors) for name, errors in others.items()}
    return Verdict(
        **{name: share for name, (share, _) in gains.items()},
        nearest_word=nearest,
        best_word=best,
        entities=dict(likeness),
        start_word=settings.initial_word,
        noise={name: noise for name, (_, noise) in gains.items()},
    )


def _rows_of(words, table):
    """Word -> encoder key -> its row of the table, float32 [1, d]."""
    return {word: {key: rows[i : i + 1] for key, rows in table.items()} for i, word in enumerate(words)}


def gain(errors, of_other) -> tuple[float, float]:
    """(gain, noise): the share by which errors are smaller over the same draws, and two standard errors of it.

    The gain is 1 - the geometric mean of their ratios, in which twice as large and half as large cancel.
    """
    ratios = errors.log() - of_other.log()
    ratio = ratios.mean().exp()
    return float(1 - ratio), float(2 * ratio * ratios.std() / len(ratios) ** 0.5)
