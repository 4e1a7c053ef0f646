"""How much memory a training step will take, found without taking it."""

import logging
from dataclasses import dataclass
from functools import partial

import comfy.model_management
import torch

from .borrowing import borrowed
from .gradients import Differentiable, training_mode
from .loading import make_room
from .memory import is_interruption
from .model import HostModel
from .recompute import are_recomputed, blocks_of, not_recomputing, recomputing

OF_TEXT = 300_000_000  # bytes that are kept of the text encoders at once, at most: CLIP's of all, others' of a caption


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that autograd saves for one picture, and how many pictures at once fit in what is free beside the models.

    checkpointed_bytes: with gradient checkpointing, the inputs of all blocks and the inside of the largest; the same as
    saved_bytes where the network is recomputed in any case.
    """

    saved_bytes: int
    checkpointed_bytes: int
    free: int

    @property
    def pictures(self) -> int:
        return self.free // max(self.saved_bytes, 1)

    @property
    def pictures_checkpointed(self) -> int:
        return self.free // max(self.checkpointed_bytes, 1)


class _MetaAttention(torch.autograd.Function):
    """Keeps what the fused attention kernels keep, and without them the probability of every pair of positions."""

    @staticmethod
    def forward(ctx, q, k, v, heads_apart, probabilities):
        """probabilities: their shape where they are kept, else None."""
        output = torch.empty_like(q)
        if heads_apart:
            output = output.transpose(1, 2).flatten(2)
        kept = [] if probabilities is None else [torch.empty(probabilities, dtype=torch.float32, device="meta")]
        ctx.save_for_backward(q, k, v, output, *kept)
        return output


def _attention(fused, _, q, k, v, heads, *args, skip_reshape=False, skip_output_reshape=False, **kwargs):
    probabilities = None if fused else (len(q), heads, q.shape[-2], k.shape[-2])
    return _MetaAttention.apply(q, k, v, skip_reshape and not skip_output_reshape, probabilities)


def has_fused_attention(device: torch.device) -> bool:
    """Whether torch's attention has kernels for a device that keep no probabilities for the backward pass."""
    management = comfy.model_management
    if device.type == "cuda" and management.is_amd():
        return management.pytorch_attention_flash_attention()
    return device.type != "mps"


def memory_plan(
    model: HostModel, shape: tuple[int, ...], dtype: torch.dtype | None = None, pictures: int = 0, forwards: int = 1
) -> MemoryPlan:
    """The plan for latents [c, h, w] or [c, 1, h, w]; dtype: the one to compute in, None for the host's; forwards:
    passes of each picture before the backward pass.

    Other models are moved off the device where `pictures` at once do not fit beside them.

    The forward pass runs on torch's meta device, which knows sizes and computes nothing. Call it inside
    `borrowed_model`.
    """
    patcher = model.patcher
    fused = has_fused_attention(patcher.load_device)
    conditions = model.example_conditions(shape)
    saved, checkpointed = kept_of_picture(patcher.model, shape, conditions, dtype, fused, forwards)
    if are_recomputed(blocks_of(patcher.model.diffusion_model)):
        saved = checkpointed
    beside = all(other.load_device == patcher.load_device for other in model.patchers) and not model.takes_turns
    of_text = OF_TEXT if beside else 0
    free = make_room(patcher.load_device, pictures * saved + of_text, *model.patchers) - of_text
    if model.takes_turns:  # when the network comes, what is there now goes
        free += sum(other.loaded_size() for other in model.patchers if other is not patcher)
        free -= patcher.model_size() - patcher.loaded_size()
    return MemoryPlan(saved, checkpointed, max(free, 0))


def kept_of_picture(
    base,
    shape: tuple[int, ...],
    conditions: dict,
    dtype: torch.dtype | None = None,
    fused_attention: bool = True,
    forwards: int = 1,
) -> tuple[int, int]:
    """Bytes that autograd keeps of one picture in a network of the host, without and with gradient checkpointing.

    conditions: what the network is given beside the latents, name -> as the host has it; shape, dtype, forwards: as of
    `memory_plan`.
    """
    conditions = {name: _sized(value) for name, value in conditions.items()}
    given = base, shape, conditions, dtype, partial(_attention, fused_attention)
    kept, largest = _measured(*given, recompute=False)
    between, _ = _measured(*given, recompute=True)
    return forwards * kept, forwards * between + largest  # of one block at a time


def _measured(base, shape, conditions, dtype, attention, recompute):
    """(bytes saved in the whole network, bytes saved in its largest block) for one picture."""
    network, measured = base.diffusion_model, _SavedBytes(dtype, dtype or base.manual_cast_dtype or base.get_dtype())
    blocks = blocks_of(network)
    hooks = [block.register_forward_pre_hook(measured.before_block) for block in blocks]
    hooks += [block.register_forward_hook(measured.after_block) for block in blocks]
    options = {"optimized_attention_override": attention, "cond_or_uncond": [0]}
    x, sigma = torch.empty(1, *shape, device="meta"), torch.empty(1, device="meta")
    try:
        with (
            training_mode(),
            borrowed([(network, measured.sized_weight), (base.model_sampling, measured.sized_weight)]),
            not_recomputing(blocks),
            recomputing(blocks if recompute else []),
            torch.autograd.graph.saved_tensors_hooks(measured.count, lambda tensor: tensor),
            Differentiable(),
        ):
            base._apply_model(x, sigma, transformer_options=options, **conditions)
            return measured.total(), measured.largest_block
    finally:
        for hook in hooks:
            hook.remove()


class _SavedBytes:
    """Counts what autograd saves in a forward pass on the meta device, in all and in the largest block."""

    def __init__(self, dtype, quantised_dtype):
        """dtype: of the weights, None for their own; quantised_dtype: that quantised ones are computed in."""
        self._dtype, self._quantised_dtype = dtype, quantised_dtype
        self._sizes = {}  # storage -> its bytes
        self._weights = set()  # storages that are there in any case
        self._before = 0  # bytes that were saved before the block under way
        self.largest_block = 0

    def total(self):
        return sum(size for storage, size in self._sizes.items() if storage not in self._weights)

    def count(self, tensor):
        storage = tensor.untyped_storage()
        self._sizes[storage._cdata] = storage.nbytes()
        return tensor

    def sized_weight(self, weight):
        """A weight of the same size without numbers."""
        plain = type(weight) in (torch.Tensor, torch.nn.Parameter)
        wanted = (self._dtype if weight.is_floating_point() else None) or weight.dtype
        held = torch.empty(tuple(weight.shape), dtype=wanted if plain else self._quantised_dtype, device="meta")
        if plain:  # of others autograd keeps the dequantised copy
            self._weights.add(held.untyped_storage()._cdata)
        return held

    def before_block(self, block, _):
        self._before = self.total()

    def after_block(self, block, _, __):
        self.largest_block = max(self.largest_block, self.total() - self._before)


def _sized(value):
    """A tensor of the same size without numbers, which takes a gradient where it can; other values as they are."""
    if torch.is_tensor(value):
        return torch.empty_like(value, device="meta").requires_grad_(value.is_floating_point())
    return [_sized(inner) for inner in value] if isinstance(value, list) else value


def logged_memory_plan(
    model: HostModel, shape: tuple[int, ...], pictures: int, dtype: torch.dtype | None, forwards: int = 1
) -> MemoryPlan | None:
    """The plan, logged with what is free; None where it cannot be made, which never ends a run; the arguments are
    those of `memory_plan`."""
    try:
        plan = memory_plan(model, shape, dtype, pictures, forwards)
    except Exception as error:  # an estimate, which a patched or new network may not let us make
        if is_interruption(error):
            raise
        logging.debug("ReVersion: the memory of a training step is not known beforehand (%s)", error)
        return None
    logging.info(
        "ReVersion: %d pictures at once need about %.1f GB beside the models, %.1f GB with gradient checkpointing; "
        "%.1f GB are free",
        pictures,
        pictures * plan.saved_bytes / 1e9,
        pictures * plan.checkpointed_bytes / 1e9,
        plan.free / 1e9,
    )
    return plan
