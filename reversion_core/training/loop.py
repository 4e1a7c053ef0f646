"""Learning R: the updates of METHOD eq. 1-4 on a frozen model.

The model is anything with the methods of `host.HostModel`; this module knows neither nodes nor comfy.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..method import focal as focal_sampling
from ..method import steering as steering_loss
from ..store.runs import RECORD

_MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's own names
SWAP_MARGIN = 0.1  # the share of the error by which the swapped caption should be worse


@dataclass(frozen=True, eq=False)
class Problem:
    """What stays the same during a run.

    mean, std: the first stage's posterior, scaled for the model, float32 [n, c, h, w]; captions: for each exemplar
    the numbers of its captions among the distinct ones; negatives: for each distinct caption the numbers of its
    entity words; basis_rows, negative_rows: encoder key -> input token embeddings, float32 [words, d];
    always_negative: numbers of the words that count in every batch; swapped: for each distinct caption the number of
    the one with its entities exchanged (these follow the distinct ones), where the settings ask for them.
    """

    mean: torch.Tensor
    std: torch.Tensor
    captions: tuple
    negatives: tuple
    basis_rows: dict
    negative_rows: dict
    always_negative: tuple = ()
    swapped: tuple = ()


@dataclass(frozen=True, eq=False)
class Draws:
    """Everything random in one micro-batch of b samples."""

    exemplars: torch.Tensor  # int64 [b]
    captions: tuple  # b numbers of distinct captions
    timesteps: torch.Tensor  # int64 [b]
    posterior: torch.Tensor  # standard normal [b, c, h, w], for the sample of the first stage's posterior
    noise: torch.Tensor  # standard normal [b, c, h, w]
    positives: torch.Tensor  # int64 [b, P], numbers of basis words

    def split(self, size):
        """The same samples in pieces of at most `size`."""
        tensors = (self.exemplars, self.timesteps, self.posterior, self.noise, self.positives)
        parts = zip(*(tensor.split(size) for tensor in tensors), strict=True)
        for start, (exemplars, *others) in zip(range(0, len(self.captions), size), parts, strict=True):
            yield Draws(exemplars, self.captions[start : start + size], *others)


class NotFiniteError(ArithmeticError):
    """The loss or its gradient is not a finite number; R still holds the last good values."""


def draw_update(problem, settings, steering, cdf, epoch, generator):
    """The micro-batches of one update. `epoch` is the list of exemplars still to come, refilled when it runs out."""
    count = settings.batch_size * settings.accumulation
    while len(epoch) < count:
        epoch.extend(torch.randperm(len(problem.captions), generator=generator).tolist())
    chosen = torch.tensor([epoch.pop(0) for _ in range(count)])
    timesteps = focal_sampling.draw_timesteps(cdf, count, generator, settings.stratified)
    batches = []
    for exemplars, t in zip(chosen.split(settings.batch_size), timesteps.split(settings.batch_size), strict=True):
        shape = (len(exemplars), *problem.mean.shape[1:])
        options = [problem.captions[i] for i in exemplars.tolist()]
        basis_size = len(next(iter(problem.basis_rows.values())))
        batches.append(
            Draws(
                exemplars,
                tuple(o[int(torch.randint(len(o), (), generator=generator))] for o in options),
                t,
                torch.randn(shape, generator=generator),
                torch.randn(shape, generator=generator),
                steering_loss.draw_positives(basis_size, steering.positives, len(exemplars), generator),
            )
        )
    return batches


def denoising_errors(model, problem, draws, features):
    """METHOD eq. 1 on one micro-batch: mean squared error of the model's own prediction target, float32 [b].

    features: name -> text features [b, ...] of the drawn captions.
    """
    posterior = draws.posterior.to(problem.mean.device)
    x0 = problem.mean[draws.exemplars] + problem.std[draws.exemplars] * posterior
    noise = draws.noise.to(x0.device)
    prediction, target = model.predict(x0, noise, draws.timesteps, features)
    return F.mse_loss(prediction.float(), target.float(), reduction="none").flatten(1).mean(1)


def swap_loss(right, swapped):
    """Contrast with swapped entities: the right caption should explain a picture better. Errors [b] each, a scalar.

    The idea of Relation Rectification (arXiv 2403.20249), as a logistic loss on the error's relative difference.
    """
    return F.softplus((right - swapped) / (SWAP_MARGIN * right.detach())).mean()


def steering_of_batch(problem, draws, relation, temperature):
    """METHOD eq. 2 on one micro-batch, averaged over the text encoders."""
    words = sorted({word for c in draws.captions for word in problem.negatives[c]}.union(problem.always_negative))
    losses = [
        steering_loss.steering_loss(
            vectors, problem.basis_rows[key][draws.positives], problem.negative_rows[key][words], temperature
        )
        for key, vectors in relation.items()
    ]
    return torch.stack(losses).mean()


def accumulate_gradient(model, problem, settings, steering, relation, batches, at_once=None):
    """Add the gradient of METHOD eq. 4, averaged over the micro-batches, to R. Returns the two mean losses.

    Each distinct caption is encoded once. The UNet's backward stops at the text features; their gradient, collected
    over the micro-batches, goes through the text encoder once. at_once: samples that go through the UNet together,
    a micro-batch unless it is given; the gradient is the same up to rounding.
    """
    with model.recording():
        drawn = {caption for draws in batches for caption in draws.captions}
        distinct = sorted(drawn.union(problem.swapped[c] for c in drawn) if settings.swap_weight else drawn)
        features = model.encode(distinct, relation)
        leaves = {name: f.detach().requires_grad_() for name, f in features.items()}
        row = {caption: i for i, caption in enumerate(distinct)}
        denoise = 0.0
        count = sum(len(draws.captions) for draws in batches)
        for piece in (piece for draws in batches for piece in draws.split(at_once or len(draws.captions))):

            def errors(captions, piece=piece):
                rows = [row[c] for c in captions]
                return denoising_errors(model, problem, piece, {name: leaf[rows] for name, leaf in leaves.items()})

            share = len(piece.captions) / count
            right = errors(piece.captions)
            loss = settings.denoise_weight * right.mean()
            if settings.swap_weight:
                wrong = errors([problem.swapped[c] for c in piece.captions])
                loss = loss + settings.swap_weight * swap_loss(right, wrong)
            (share * loss).backward()
            denoise += share * right.detach().mean()
        steers = [steering_of_batch(problem, draws, relation, steering.temperature) for draws in batches]
        steer = torch.stack(steers).mean()
        used = [name for name, leaf in leaves.items() if leaf.grad is not None]
        torch.autograd.backward(
            [*(features[name] for name in used), steering.weight * steer], [*(leaves[name].grad for name in used), None]
        )
    return denoise, steer.detach()


def rescale(relation, norms):
    """Set the norm of every vector of R to the encoder's `norms[key]`."""
    with torch.no_grad():
        for key, vectors in relation.items():
            vectors.mul_(norms[key] / vectors.norm(dim=-1, keepdim=True))


def similarity(relation, rows):
    """Cosine between R's mean vector and each row, averaged over the encoders: float32 [words]."""
    with torch.no_grad():
        return torch.stack(
            [F.cosine_similarity(v.mean(0, keepdim=True), rows[key], dim=-1) for key, v in relation.items()]
        ).mean(0)


class Learner:
    """The optimisation of R, one update at a time.

    Deterministic in `settings.seed`: no global random state is read or written. `model` may be put anew between two
    updates, such as after the host had it back for a while.
    """

    def __init__(self, model, problem, settings, steering, focal, initial):
        """initial: encoder key -> float32 [k, d]."""
        self.model, self.problem, self.settings, self.steering = model, problem, settings, steering
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.relation = {key: torch.nn.Parameter(v.clone()) for key, v in initial.items()}
        # Taken once: it is a mean over the whole vocabulary.
        self.norms = model.vocabulary_norms if settings.norm == "vocabulary" else None
        self._control_norm()
        self.optimizer = torch.optim.AdamW(self.relation.values(), weight_decay=settings.weight_decay)
        self.cdf = focal_sampling.cumulative(model.timesteps, focal)
        self.epoch = []
        self.history = []  # a record for each update
        self.at_once = settings.batch_size  # samples that go through the UNet together

    @property
    def step(self):
        """Updates done."""
        return len(self.history)

    @property
    def vectors(self):
        """R as it is now: encoder key -> float32 [k, d], a copy."""
        with torch.inference_mode(False), torch.no_grad():
            return {key: v.clone() for key, v in self.relation.items()}

    def update(self):
        """One update of R, whole or not at all. Raises NotFiniteError before one that would spoil it."""
        drawn_from, epoch = self.generator.get_state(), list(self.epoch)
        try:
            self._update()
        except BaseException:
            self.generator.set_state(drawn_from)
            self.epoch = epoch
            raise

    def _update(self):
        settings = self.settings
        batches = draw_update(self.problem, settings, self.steering, self.cdf, self.epoch, self.generator)
        self.optimizer.param_groups[0]["lr"] = settings.rate(self.step)
        self.optimizer.zero_grad()
        denoise, steer = accumulate_gradient(
            self.model, self.problem, settings, self.steering, self.relation, batches, self.at_once
        )
        total = settings.denoise_weight * denoise + self.steering.weight * steer
        if not (total.isfinite() and all(v.grad.isfinite().all() for v in self.relation.values())):
            raise NotFiniteError(f"the loss of step {self.step + 1} is not a finite number")
        self.optimizer.step()
        self._control_norm()
        vectors = self.vectors
        self.history.append(
            {
                "loss": float(total),
                "denoise": float(denoise),
                "steer": float(steer),
                "norm": float(torch.stack([v.norm(dim=-1).mean() for v in vectors.values()]).mean()),
                "similarity": float(similarity(vectors, self.problem.basis_rows).mean()),
            }
        )

    def _control_norm(self):
        if self.norms is not None:
            rescale(self.relation, self.norms)

    def state(self):
        """Everything that an exact continuation needs, as tensors by name."""
        tensors = {
            "generator": self.generator.get_state(),
            "epoch": torch.tensor(self.epoch, dtype=torch.int64),
            "history": torch.tensor([list(r.values()) for r in self.history], dtype=torch.float64),
        }
        for key, v in self.relation.items():
            tensors[f"vectors.{key}"] = v.detach().clone()
            for name in _MOMENTS:
                tensors[f"{name}.{key}"] = self.optimizer.state[v][name].clone()
        return tensors

    def restore(self, tensors):
        """Go on from a `state` of a learner that was made alike."""
        self.generator.set_state(tensors["generator"])
        self.epoch = tensors["epoch"].tolist()
        self.history = [dict(zip(RECORD, row, strict=True)) for row in tensors["history"].tolist()]
        for key, v in self.relation.items():
            with torch.no_grad():
                v.copy_(tensors[f"vectors.{key}"])
            moments = {name: tensors[f"{name}.{key}"].clone() for name in _MOMENTS}
            self.optimizer.state[v] = {"step": torch.tensor(float(self.step)), **moments}
