"""Compares the host's gradients with finite differences once before training."""

import logging

import torch

from ..errors import ReVersionError
from .memory import is_interruption, is_out_of_memory
from .model import HostModel

_SIDE = 64  # of the latents that are probed; PixArt computes with none that are smaller than 33
_STEPS = (0.1, 0.05, 0.025, 0.0125, 0.00625)  # in units of the size of R
_AGREE = 0.25  # of its size, what an estimate may differ from the one with twice the step
_WITHIN = (0.5, 2.0)  # of the true slope; gradients that a kernel spoils are far outside


def check_conditions(model: HostModel, shape: tuple[int, ...], node: str):
    """Refuse a network that a picture steers, as one does under a LoRA for Canny or Depth.

    shape: of one picture's latents. In a training that picture would be empty. Call it inside `borrowed_model`. Raises
    a ReVersionError.
    """
    try:
        conditions = model.example_conditions(shape)
    except Exception as problem:
        _raise_what_ends_a_run(problem)
        return
    if "c_concat" in conditions:
        problem = "it takes a picture beside the noise, which a training does not have"
        raise ReVersionError(node, "model", problem, "take out the LoRA for Canny or Depth or use another checkpoint")


def check_gradients(model: HostModel, relation: dict[str, torch.Tensor], x0: torch.Tensor, node: str):
    """Compare R's gradient with finite differences, an encoder at a time; call it inside `borrowed_model`.

    relation: encoder key -> float32 [k, d]; x0: the latents of one picture, [1, ...]. Raises a ReVersionError where
    they disagree. What is compared is the projection of the error on its own change: a slope that is as large as can
    be. Steps are halved until two estimates agree: large ones are bent by the model, small ones lost in rounding.
    Where none agree, or the probe cannot be computed, nothing is said.
    """
    x0 = x0[..., :_SIDE, :_SIDE]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(x0.shape, generator=generator)
    timesteps = torch.tensor([model.timesteps * 3 // 4])
    for key, vectors in relation.items():
        direction = torch.randn(vectors.shape, generator=generator)
        direction = direction * (vectors.norm() / direction.norm())

        def encoded(step, key=key, vectors=vectors, direction=direction):
            return model.encode([0], {**relation, key: vectors + step * direction})[0]

        def error(features):
            return model.prediction_error(x0, noise, timesteps, [features]).cpu().double()

        try:
            change, other = _converged(encoded, error, model.takes_turns)
        except Exception as problem:
            _raise_what_ends_a_run(problem)
            logging.warning("ReVersion: the gradients could not be checked beforehand (%s)", problem)
            return
        if change is None:  # also where the encoder has no influence at all
            continue
        weights = change / change.abs().max()
        live = torch.zeros((), requires_grad=True)
        try:
            with model.recording():
                features = encoded(live)
                leaves = {name: _leaf(value) for name, value in features.items()}
                if model.takes_turns:  # what was kept of it would stay on the device
                    features = None
                (error(leaves) * weights).sum().backward()
                features = features or encoded(live)
                reached = [name for name, leaf in leaves.items() if torch.is_tensor(leaf) and leaf.grad is not None]
                torch.autograd.backward([features[n] for n in reached], [leaves[n].grad for n in reached])
        except RuntimeError as problem:
            if is_out_of_memory(problem):
                raise
            raise _wrong(node, key, str(problem).splitlines()[0][:120]) from problem
        slope = 0.0 if live.grad is None else float(live.grad)
        share = slope / float((other * weights).sum())
        if not _WITHIN[0] < share < _WITHIN[1]:
            raise _wrong(node, key, f"it is {share:.2g} of what it should be")


@torch.no_grad()
def _converged(encoded, error, ahead):
    """Two central differences that agree, the finer one first; (None, None) where there are none.

    ahead: all steps are encoded before one is predicted, since network and text encoders change places for it.
    """
    both = (encoded(sign * step) for step in _STEPS for sign in (1, -1))
    features, coarse = iter(list(both) if ahead else both), None
    for step in _STEPS:
        above, below = error(next(features)), error(next(features))
        fine = (above - below) / (2 * step)
        if coarse is not None and float((fine - coarse).norm()) < _AGREE * float(fine.norm()):
            return fine, coarse
        coarse = fine
    return None, None


def _leaf(value):
    """A text feature to collect gradients at, where it has any."""
    return value.detach().requires_grad_() if torch.is_tensor(value) and value.requires_grad else value


def _raise_what_ends_a_run(problem):
    """Too little memory, or the artist's Cancel; whatever else a check runs into, the training may be spared."""
    if is_out_of_memory(problem) or is_interruption(problem):
        raise problem


def _wrong(node, key, said):
    return ReVersionError(
        node,
        "model",
        f"this version of ComfyUI computes wrong gradients through {key} ({said})",
        "take out nodes that change the model, or use another version of ComfyUI or of ReVersion",
    )
