"""Learning R: the updates of eq. 1-4 of `reversion_core.method` on a frozen model.

The model is anything with the methods of `host.HostModel`; this module knows neither nodes nor comfy.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ..method.focal import cumulative
from ..method.prior import NORMS, PRIORS
from .inputs import TrainingData, TrainingInputs
from .losses import LOSSES, weights
from .optimizers import OPTIMIZERS
from .step import GradientOverflow, LossScale, NotFiniteError, accumulate_gradient, draw_update

TITLES = {
    **{name: loss.title for name, loss in LOSSES.items()},
    "norm": "norm of R",
    "similarity": "mean cosine of R with the word basis",
}


def columns(inputs: TrainingInputs) -> tuple[str, ...]:
    """The numbers that are kept of an update."""
    return ("loss", *weights(inputs), "norm", "similarity")


def similarity(relation, rows):
    """Cosine between R's mean vector and each row, in the mean over the encoders: float32 [words]."""
    with torch.no_grad():
        return torch.stack(
            [F.cosine_similarity(v.mean(0, keepdim=True), rows[key], dim=-1) for key, v in relation.items()]
        ).mean(0)


class Learner:
    """The optimisation of R, one update at a time.

    Deterministic in `settings.seed`: no global random state is read or written. `model` may be replaced between two
    updates, such as after the host had it back for a while.
    """

    def __init__(self, model, data: TrainingData, inputs: TrainingInputs, initial: dict[str, torch.Tensor]):
        """initial: encoder key -> float32 [k, d]; R starts where the prior and the norm put it."""
        self.model, self.data, self.inputs = model, data, inputs
        self.everything, self.pictures = data, list(range(len(data.captions)))  # numbers of those it trains on
        settings = inputs.settings
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.relation = {key: torch.nn.Parameter(v.clone()) for key, v in initial.items()}
        self._turns_only = getattr(OPTIMIZERS[settings.optimizer], "RELATIVE", False)  # and keeps the length of R
        self._hold_to_prior()
        groups = [{"params": [v]} for v in self.relation.values()]
        self.optimizer = OPTIMIZERS[settings.optimizer](groups, weight_decay=settings.weight_decay)
        self.cdf = cumulative(model.timesteps, inputs.focal)
        self.scale = LossScale(model.computes_in_fp16)
        self.remaining_exemplars = []
        self.history = []  # a record for each update
        self.samples_per_pass = settings.batch_size

    def train_on(self, pictures: Sequence[int]):
        """Train on these of the pictures that it was made with, before the first update."""
        self.pictures, self.data = list(pictures), self.everything.only(pictures)

    @property
    def step(self) -> int:
        """Updates done."""
        return len(self.history)

    @property
    def vectors(self) -> dict[str, torch.Tensor]:
        """R as it is now: encoder key -> float32 [k, d], a copy."""
        with torch.inference_mode(False), torch.no_grad():
            return {key: v.clone() for key, v in self.relation.items()}

    def update(self):
        """One update of R, whole or not at all. Raises NotFiniteError before one that would spoil it."""
        drawn_from, remaining = self.generator.get_state(), list(self.remaining_exemplars)
        try:
            self._update()
        except BaseException:
            self.generator.set_state(drawn_from)
            self.remaining_exemplars = remaining
            raise

    def _update(self):
        batches = draw_update(self.data, self.inputs, self.cdf, self.remaining_exemplars, self.generator)
        means = self._gradient(batches)
        total = sum(weight * means[name] for name, weight in weights(self.inputs).items())
        if not (total.isfinite() and all(v.grad.isfinite().all() for v in self.relation.values())):
            raise NotFiniteError(f"the loss of step {self.step + 1} is not a finite number")
        rate = self.inputs.settings.rate(self.step)
        units = {} if self._turns_only else self.data.rates
        for key, group in zip(self.relation, self.optimizer.param_groups, strict=True):
            unit = units.get(key, 1.0)
            group["lr"] = rate * unit
            if "weight_decay" in group:  # AdamW takes lr times this share, which is to be the same of every encoder
                group["weight_decay"] = self.inputs.settings.weight_decay / unit
        self.optimizer.step()
        self._hold_to_prior()
        vectors = self.vectors
        self.history.append(
            {
                "loss": float(total),
                **{name: float(mean) for name, mean in means.items()},
                "norm": float(torch.stack([v.norm(dim=-1).mean() for v in vectors.values()]).mean()),
                "similarity": float(similarity(vectors, self.data.basis_rows).mean()),
            }
        )

    def _gradient(self, batches):
        """The losses of an update, whose gradient is in R; repeated with a smaller scale where that overflows."""
        while True:
            self.optimizer.zero_grad()
            try:
                means = accumulate_gradient(
                    self.model,
                    self.data,
                    self.inputs,
                    self.relation,
                    batches,
                    self.samples_per_pass,
                    self.scale.value,
                )
            except GradientOverflow:
                self.scale.overflowed()
            else:
                self.scale.succeeded()
                return means

    def _hold_to_prior(self):
        to_prior, to_norm = PRIORS[self.inputs.prior].hold, NORMS[self.inputs.settings.norm].hold
        with torch.no_grad():
            for key, vectors in self.relation.items():
                held = vectors
                if to_prior:
                    held = to_prior(held, self.data.span[key])
                    if self._turns_only:  # what the prior takes away is not to shorten it
                        held = held * vectors.norm(dim=-1, keepdim=True) / held.norm(dim=-1, keepdim=True)
                if to_norm:
                    held = to_norm(held, self.data.norms[key])
                vectors.copy_(held)

    def optimizer_shapes(self, key: str) -> dict[str, torch.Size]:
        """Name -> shape of what the optimizer keeps of an encoder's vectors, found by a step of a copy."""
        twin = torch.nn.Parameter(self.relation[key].detach().clone())
        twin.grad = torch.ones_like(twin)
        optimizer = OPTIMIZERS[self.inputs.settings.optimizer]([twin])
        optimizer.step()
        return {name: value.shape for name, value in optimizer.state[twin].items()}

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that an exact continuation needs, as tensors by name."""
        tensors = {
            "generator": self.generator.get_state(),
            "pictures": torch.tensor(self.pictures, dtype=torch.int64),
            "epoch": torch.tensor(self.remaining_exemplars, dtype=torch.int64),  # of them, by their place
            "history": torch.tensor([list(r.values()) for r in self.history], dtype=torch.float64),
            "scale": torch.tensor([self.scale.value, self.scale.updates_since_overflow], dtype=torch.float64),
            "samples_per_pass": torch.tensor(self.samples_per_pass),
        }
        for key, v in self.relation.items():
            tensors[f"vectors.{key}"] = v.detach().clone()
            for name, value in self.optimizer.state[v].items():
                tensors[f"optimizer.{key}.{name}"] = value.clone()
        return tensors

    def restore(self, tensors: dict[str, torch.Tensor]):
        """Go on from a `state` of a learner that was made alike, on the pictures that it trained on.

        Raises ValueError where it cannot be one.
        """
        check_state(tensors, self)
        if "pictures" in tensors:  # older ones have none
            self.train_on(tensors["pictures"].tolist())
        self.generator.set_state(tensors["generator"])
        self.remaining_exemplars = tensors["epoch"].tolist()
        names = columns(self.inputs)
        self.history = [dict(zip(names, row, strict=True)) for row in tensors["history"].tolist()]
        self.scale.value, self.scale.updates_since_overflow = tensors["scale"][0].item(), int(tensors["scale"][1])
        self.samples_per_pass = int(tensors["samples_per_pass"])
        for key, v in self.relation.items():
            with torch.no_grad():
                v.copy_(tensors[f"vectors.{key}"])
            prefix = f"optimizer.{key}."
            self.optimizer.state[v] = {
                name.removeprefix(prefix): value.clone() for name, value in tensors.items() if name.startswith(prefix)
            }


def check_state(tensors, learner: Learner):
    """Raises ValueError unless the tensors can be the state of a learner that was made like this one."""
    settings, pictures = learner.inputs.settings, tensors.get("pictures", torch.tensor(learner.pictures))
    expected = {"generator", "epoch", "history", "scale", "samples_per_pass"}
    expected |= {f"vectors.{key}" for key in learner.relation}
    if missing := expected - tensors.keys():
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    history, width = tensors["history"], len(columns(learner.inputs))
    if history.ndim != 2 or history.shape[1] != width or not 1 <= len(history) <= settings.steps:
        raise ValueError("its history does not belong to these settings")
    for numbers, count in ((pictures, len(learner.everything.captions)), (tensors["epoch"], len(pictures))):
        if numbers.ndim != 1 or not all(0 <= i < count for i in numbers.tolist()):
            raise ValueError("it draws from other exemplars")
    if tensors["generator"].shape != learner.generator.get_state().shape or tensors["generator"].dtype != torch.uint8:
        raise ValueError("its random state is of another kind")
    if tensors["scale"].shape != (2,) or not 1 <= int(tensors["samples_per_pass"]) <= settings.batch_size:
        raise ValueError("its memory plan is of another kind")
    for key, v in learner.relation.items():
        vectors = tensors[f"vectors.{key}"]
        if vectors.shape != v.shape:
            raise ValueError(f"its vectors of {key} have another shape")
        found = {name: t.shape for name, t in tensors.items() if name.startswith(f"optimizer.{key}.")}
        if found != {f"optimizer.{key}.{name}": shape for name, shape in learner.optimizer_shapes(key).items()}:
            raise ValueError(f"its optimizer state of {key} has another shape")
    if not all(t.isfinite().all() for t in tensors.values() if t.is_floating_point()):
        raise ValueError("it holds numbers that are not finite")
