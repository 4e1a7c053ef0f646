"""Gradient checkpointing of the host's blocks, which change their inputs in place and may return several outputs."""

import contextlib
from collections.abc import Iterable

import comfy.ldm.modules.attention
import comfy.ldm.modules.diffusionmodules.openaimodel
import torch

from .gradients import Differentiable, carries_gradient

_BLOCKS_OF_UNET = (
    comfy.ldm.modules.diffusionmodules.openaimodel.ResBlock,
    comfy.ldm.modules.attention.BasicTransformerBlock,
)


def blocks_of(network: torch.nn.Module) -> list[torch.nn.Module]:
    """The blocks of a diffusion model or text encoder, none inside another: those of the UNet's classes, else the
    members of its outermost module lists."""
    if found := [part for part in network.modules() if isinstance(part, _BLOCKS_OF_UNET)]:
        return found
    return [block for block in _members(network) if next(block.parameters(), None) is not None]


def _members(module):
    for child in module.children():
        if isinstance(child, torch.nn.ModuleList):
            yield from child
        else:
            yield from _members(child)


class _Recompute(torch.autograd.Function):
    """A function whose inputs alone are kept for its backward pass.

    torch's own checkpoint does not go with inputs that the function changes in place, as the host's blocks do.
    """

    @staticmethod
    def forward(ctx, run, *inputs):
        ctx.run = run
        ctx.save_for_backward(*inputs)
        return run(*(x.clone() for x in inputs))

    @staticmethod
    def backward(ctx, *gradients):
        needed = zip(ctx.saved_tensors, ctx.needs_input_grad[1:], strict=True)
        inputs = [x.detach().requires_grad_(wanted) for x, wanted in needed]
        # The backward pass of a GPU runs on a thread of its own, where the caller's modes are not in force.
        with torch.enable_grad(), Differentiable():
            outputs = ctx.run(*(x.clone() for x in inputs))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        reached = [
            (output, gradient)
            for output, gradient in zip(outputs, gradients, strict=True)
            if torch.is_tensor(output) and output.requires_grad and gradient is not None
        ]
        wanted = [x for x in inputs if x.requires_grad]
        found = iter(
            torch.autograd.grad([o for o, _ in reached], wanted, [g for _, g in reached], allow_unused=True)
            if reached
            else [None] * len(wanted)
        )
        return None, *(next(found) if x.requires_grad else None for x in inputs)


def _recomputed(forward, sequential):
    """sequential: gradients flow through the first tensor alone, from layer to layer of a text encoder, which changes
    no other in place."""

    def call(*args, **kwargs):
        given = {**dict(enumerate(args)), **kwargs}
        tensors = {name: value for name, value in given.items() if torch.is_tensor(value)}
        # The host writes into its options from block to block.
        fixed = {
            name: dict(value) if isinstance(value, dict) else value
            for name, value in given.items()
            if name not in tensors
        }
        if not torch.is_grad_enabled() or any(map(carries_gradient, fixed.values())):
            return forward(*args, **kwargs)
        if sequential:
            first, *others = tensors
            fixed |= {name: tensors[name].detach() for name in others}
            tensors = {first: tensors[first]}
        beside = []

        def run(*values):
            now = fixed | dict(zip(tensors, values, strict=True))
            found = forward(*(now[i] for i in range(len(args))), **{name: now[name] for name in kwargs})
            if not (sequential and isinstance(found, tuple)):
                return found
            # As T5's bias: the same for every layer, which each would keep a copy of.
            beside[:] = [value.detach() if torch.is_tensor(value) else value for value in found[1:]]
            return found[0]

        found = _Recompute.apply(run, *tensors.values())
        return (found, *beside) if beside else found

    call.plain = forward
    return call


def are_recomputed(blocks: Iterable[torch.nn.Module]) -> bool:
    """Whether some of the blocks are inside `recomputing`."""
    return any(hasattr(vars(block).get("forward"), "plain") for block in blocks)


@contextlib.contextmanager
def not_recomputing(blocks: Iterable[torch.nn.Module]):
    """Let blocks that are inside `recomputing` keep what is inside them for a while."""
    held = [(block, vars(block)["forward"]) for block in blocks if are_recomputed([block])]
    try:
        for block, forward in held:
            block.forward = forward.plain
        yield
    finally:
        for block, forward in held:
            block.forward = forward


@contextlib.contextmanager
def recomputing(blocks: Iterable[torch.nn.Module], sequential: bool = False):
    """Let blocks be computed again in the backward pass instead of keeping all that is inside them."""
    blocks = list(blocks)
    before = [vars(block).get("forward") for block in blocks]
    try:
        for block in blocks:
            block.forward = _recomputed(block.forward, sequential)
        yield
    finally:
        for block, forward in zip(blocks, before, strict=True):
            vars(block).pop("forward", None)
            if forward is not None:
                block.forward = forward
