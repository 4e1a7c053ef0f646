"""One update: what is drawn for it, and the gradient of eq. 4 of `reversion_core.method`."""

import torch

from ..method.focal import draw_timesteps
from ..method.steering import draw_positives
from .inputs import TrainingData, TrainingInputs
from .losses import LOSSES, DenoisingErrors, MicroBatch, weights


class NotFiniteError(ArithmeticError):
    """The loss or its gradient is not a finite number; R still holds the last good values."""


class GradientOverflow(ArithmeticError):
    """A scaled gradient left the range of half precision; the update is to be repeated with a smaller scale."""


class LossScale:
    """The factor of the loss where the network computes in float16, whose small gradients are 0 otherwise.

    As torch.amp.GradScaler: halved when a gradient overflows, doubled after `INTERVAL` updates without overflow.
    An update that overflowed is repeated, where GradScaler would skip it.
    """

    START, INTERVAL, SMALLEST = 2.0**16, 2000, 2.0**-14

    def __init__(self, enabled: bool):
        self.enabled, self.value, self.updates_since_overflow = enabled, self.START if enabled else 1.0, 0

    def succeeded(self):
        self.updates_since_overflow += 1
        if self.enabled and self.updates_since_overflow == self.INTERVAL:
            self.value, self.updates_since_overflow = self.value * 2, 0

    def overflowed(self):
        """Halve it. Raises NotFiniteError where no scale can help."""
        self.value, self.updates_since_overflow = self.value / 2, 0
        if not self.enabled or self.value < self.SMALLEST:
            raise NotFiniteError("the gradient is not a finite number")


def draw_update(data: TrainingData, inputs: TrainingInputs, cdf, remaining: list, generator) -> list[MicroBatch]:
    """The micro-batches of one update. remaining: the exemplars still to come, refilled when it runs out."""
    settings = inputs.settings
    count = settings.batch_size * settings.accumulation
    while len(remaining) < count:
        remaining.extend(torch.randperm(len(data.captions), generator=generator).tolist())
    chosen = torch.tensor([remaining.pop(0) for _ in range(count)])
    timesteps = draw_timesteps(cdf, count, generator, settings.stratified)
    basis_size = len(next(iter(data.basis_rows.values())))
    batches = []
    for exemplars, t in zip(chosen.split(settings.batch_size), timesteps.split(settings.batch_size), strict=True):
        shape = (len(exemplars), *data.mean.shape[1:])
        options = [data.captions[i] for i in exemplars.tolist()]
        batches.append(
            MicroBatch(
                exemplars,
                tuple(o[int(torch.randint(len(o), (), generator=generator))] for o in options),
                t,
                torch.randn(shape, generator=generator),
                torch.randn(shape, generator=generator),
                draw_positives(basis_size, inputs.steering.positives, len(exemplars), generator),
            )
        )
    return batches


def accumulate_gradient(model, data, inputs, relation, batches, samples_per_pass=None, scale=1.0):
    """Add the gradient of eq. 4 of `reversion_core.method`, in the mean over the micro-batches, to R.

    The network's backward pass stops at the text features of each distinct caption; their gradient, collected over the
    micro-batches, goes through the text encoder once. Where that had to leave the device for the network, or is large,
    captions are encoded again for it, a large one's by themselves, so that one alone is kept.

    samples_per_pass: samples that go through the network together, a micro-batch unless it is given; scale: of the loss
    inside the network. Returns name of a loss -> its mean, a float tensor. Raises GradientOverflow before R has any
    gradient.
    """
    used = weights(inputs)
    of_errors = {name: weight for name, weight in used.items() if LOSSES[name].from_denoising_errors}
    of_vectors = {name: weight for name, weight in used.items() if LOSSES[name].from_vectors}
    count = sum(len(batch.captions) for batch in batches)
    means = dict.fromkeys(used, torch.zeros(()))
    with model.recording():
        drawn = {caption for batch in batches for caption in batch.captions}
        templates = sorted(drawn.union(data.swapped[c] for c in drawn) if inputs.steering.swap else drawn)
        groups = [templates] if model.encodes_together else [[template] for template in templates]
        kept, leaves = {}, {}
        for group in groups:
            features = dict(zip(group, model.encode(group, relation), strict=True))
            leaves |= {t: {name: _leaf(value) for name, value in of_one.items()} for t, of_one in features.items()}
            if model.encodes_together and not model.takes_turns:
                kept = features
            del features
        for piece in (p for batch in batches for p in batch.split(samples_per_pass or len(batch.captions))):
            errors, share, total = DenoisingErrors(model, data, piece, leaves), len(piece.captions) / count, 0.0
            for name, weight in of_errors.items():
                value = LOSSES[name].from_denoising_errors(errors)
                total = total + weight * value
                means[name] = means[name] + share * value.detach().cpu()
            if of_errors:
                (scale * share * total).backward()
        if not all(mean.isfinite() for mean in means.values()):
            raise NotFiniteError("the denoising loss is not a finite number")
        gradients = {
            t: {name: leaf.grad for name, leaf in of_one.items() if torch.is_tensor(leaf) and leaf.grad is not None}
            for t, of_one in leaves.items()
        }
        if not all(gradient.isfinite().all() for of_one in gradients.values() for gradient in of_one.values()):
            raise GradientOverflow("a gradient at the text features is not a finite number")
        for group in groups:
            features = kept or dict(zip(group, model.encode(group, relation), strict=True))
            reached = [(features[t][name], gradient) for t in group for name, gradient in gradients[t].items()]
            of_words = []
            if group is groups[-1]:  # with the captions, so that the same sums are formed in the same order
                for name in of_vectors:
                    values = [LOSSES[name].from_vectors(relation, data, batch, inputs.steering) for batch in batches]
                    means[name] = torch.stack(values).mean()
                of_words = [weight * means[name] for name, weight in of_vectors.items()]
            roots = [feature for feature, _ in reached] + of_words
            if roots:
                torch.autograd.backward(roots, [gradient / scale for _, gradient in reached] + [None] * len(of_words))
    return {name: mean.detach() for name, mean in means.items()}


def _leaf(value):
    """A text feature as the network gets it: detached, to collect gradients; what is no tensor as it is."""
    differentiable = torch.is_tensor(value) and value.is_floating_point()
    return value.detach().requires_grad_(value.requires_grad) if differentiable else value
