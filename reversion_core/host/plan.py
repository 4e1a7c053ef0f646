"""How much memory a training step will take, found without taking it."""

import logging
from dataclasses import dataclass

import torch

from .borrowing import borrowed
from .gradients import Differentiable, training_mode
from .loading import make_room
from .memory import is_interruption
from .model import HostModel
from .recompute import are_recomputed, blocks_of, not_recomputing, recomputing


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that autograd keeps of one picture, and how many pictures at once fit in what is free beside the models.

    recomputed: with gradient checkpointing, the inputs of all blocks and the inside of the largest; the same as kept
    where the network is recomputed in any case.
    """

    kept: int
    recomputed: int
    free: int

    @property
    def pictures(self) -> int:
        return self.free // max(self.kept, 1)

    @property
    def pictures_recomputed(self) -> int:
        return self.free // max(self.recomputed, 1)


class _MetaAttention(torch.autograd.Function):
    """Keeps what the fused attention kernels keep."""

    @staticmethod
    def forward(ctx, q, k, v, heads_apart):
        output = torch.empty_like(q)
        if heads_apart:
            output = output.transpose(1, 2).flatten(2)
        ctx.save_for_backward(q, k, v, output)
        return output


def _attention(_, q, k, v, *args, skip_reshape=False, skip_output_reshape=False, **kwargs):
    return _MetaAttention.apply(q, k, v, skip_reshape and not skip_output_reshape)


def memory_plan(
    model: HostModel, shape: tuple[int, ...], dtype: torch.dtype | None = None, pictures: int = 0
) -> MemoryPlan:
    """The plan for latents [c, h, w] or [c, 1, h, w]; dtype: the one to compute in, None for the host's.

    Other models are moved off the device where `pictures` at once do not fit beside them.

    The forward pass runs on torch's meta device, which knows sizes and computes nothing. Call it inside `borrowing`.
    """
    patcher = model.patcher
    kept, recomputed = kept_of_picture(patcher.model, shape, model.example_conditions(shape), dtype)
    if are_recomputed(blocks_of(patcher.model.diffusion_model)):
        kept = recomputed
    return MemoryPlan(kept, recomputed, make_room(patcher.load_device, pictures * kept, *model.patchers))


def kept_of_picture(
    base, shape: tuple[int, ...], conditions: dict, dtype: torch.dtype | None = None
) -> tuple[int, int]:
    """Bytes that autograd keeps of one picture in a network of the host, without and with gradient checkpointing.

    conditions: what the network is given beside the latents, name -> as the host has it; shape, dtype: as of
    `memory_plan`.
    """
    conditions = {name: _sized(value) for name, value in conditions.items()}
    kept, largest = _kept(base, shape, conditions, dtype, recompute=False)
    between, _ = _kept(base, shape, conditions, dtype, recompute=True)
    return kept, between + largest


def _kept(base, shape, conditions, dtype, recompute):
    """(bytes kept by the whole network, bytes kept by its largest block) of one picture."""
    network, sizes, largest = base.diffusion_model, {}, [0]
    compute = dtype or base.manual_cast_dtype or base.get_dtype()

    def note(tensor):
        storage = tensor.untyped_storage()
        sizes[storage._cdata] = storage.nbytes()
        return tensor

    def of_size(weight):
        plain = type(weight) in (torch.Tensor, torch.nn.Parameter)
        wanted = (dtype if weight.is_floating_point() else None) or weight.dtype
        held = torch.empty(tuple(weight.shape), dtype=wanted if plain else compute, device="meta")
        if plain:  # of others autograd keeps the dequantised copy
            weights.add(held.untyped_storage()._cdata)
        return held

    def total():
        return sum(size for storage, size in sizes.items() if storage not in weights)

    def before(block, _):
        before.total = total()

    def after(block, _, __):
        largest[0] = max(largest[0], total() - before.total)

    weights, blocks = set(), blocks_of(network)
    hooks = [h for b in blocks for h in (b.register_forward_pre_hook(before), b.register_forward_hook(after))]
    options = {"optimized_attention_override": _attention, "cond_or_uncond": [0]}
    x, sigma = torch.empty(1, *shape, device="meta"), torch.empty(1, device="meta")
    try:
        with (
            training_mode(),
            borrowed([(network, of_size), (base.model_sampling, of_size)]),
            not_recomputing(blocks),
            recomputing(blocks if recompute else []),
            torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
            Differentiable(),
        ):
            base._apply_model(x, sigma, transformer_options=options, **conditions)
            return total(), largest[0]
    finally:
        for hook in hooks:
            hook.remove()


def _sized(value):
    """A tensor of the same size without numbers, which takes a gradient where it can; other values as they are."""
    if torch.is_tensor(value):
        return torch.empty_like(value, device="meta").requires_grad_(value.is_floating_point())
    return [_sized(inner) for inner in value] if isinstance(value, list) else value


def tell_memory(
    model: HostModel, shape: tuple[int, ...], pictures: int, dtype: torch.dtype | None
) -> MemoryPlan | None:
    """Log what a training step needs beside the loaded models, and what is free; returns the plan. Never ends a run."""
    try:
        plan = memory_plan(model, shape, dtype, pictures)
    except Exception as error:  # an estimate, which a patched or new network may not let us make
        if is_interruption(error):
            raise
        logging.debug("ReVersion: the memory of a training step is not known beforehand (%s)", error)
        return None
    logging.info(
        "ReVersion: %d pictures at once need about %.1f GB beside the models, %.1f GB with gradient checkpointing; "
        "%.1f GB are free",
        pictures,
        pictures * plan.kept / 1e9,
        pictures * plan.recomputed / 1e9,
        plan.free / 1e9,
    )
    return plan
