"""The memory of a training step: what it needs, and how it needs less."""

import contextlib
import logging

import comfy.ldm.modules.attention
import comfy.ldm.modules.diffusionmodules.openaimodel
import comfy.model_management
import torch

from .borrowing import borrowed, training_mode

_BLOCKS = (
    comfy.ldm.modules.diffusionmodules.openaimodel.ResBlock,
    comfy.ldm.modules.attention.BasicTransformerBlock,
)

empty_cache = comfy.model_management.soft_empty_cache


def is_out_of_memory(error) -> bool:
    """Whether an exception says that a device has too little memory."""
    return isinstance(error, comfy.model_management.OOM_EXCEPTION)


def is_interruption(error) -> bool:
    """Whether an exception is the artist's Cancel: an Exception up to ComfyUI 0.19."""
    return isinstance(error, comfy.model_management.InterruptProcessingException)


@contextlib.contextmanager
def out_of_memory_told(make_error):
    """Raises make_error() where the host runs out of memory inside."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise make_error() from error
        raise


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
    def backward(ctx, gradient):
        needed = zip(ctx.saved_tensors, ctx.needs_input_grad[1:], strict=True)
        inputs = [x.detach().requires_grad_(wanted) for x, wanted in needed]
        with torch.enable_grad():
            output = ctx.run(*(x.clone() for x in inputs))
        wanted = [x for x in inputs if x.requires_grad]
        found = iter(torch.autograd.grad(output, wanted, gradient))
        return None, *(next(found) if x.requires_grad else None for x in inputs)


def _recomputed(forward):
    def call(*args, **kwargs):
        given = {**dict(enumerate(args)), **kwargs}
        # The host writes into its options from block to block.
        fixed = {k: dict(v) if isinstance(v, dict) else v for k, v in given.items() if not torch.is_tensor(v)}
        tensors = {k: v for k, v in given.items() if torch.is_tensor(v)}

        def run(*values):
            now = fixed | dict(zip(tensors, values, strict=True))
            return forward(*(now[i] for i in range(len(args))), **{name: now[name] for name in kwargs})

        return _Recompute.apply(run, *tensors.values())

    return call


@contextlib.contextmanager
def recomputing(unet):
    """Let the blocks of a UNet be computed again in the backward pass instead of keeping all that is inside them."""
    blocks = [module for module in unet.modules() if isinstance(module, _BLOCKS)]
    before = [vars(block).get("forward") for block in blocks]
    try:
        for block in blocks:
            block.forward = _recomputed(block.forward)
        yield
    finally:
        for block, forward in zip(blocks, before, strict=True):
            vars(block).pop("forward", None)
            if forward is not None:
                block.forward = forward


class _MetaAttention(torch.autograd.Function):
    """Keeps what the fused attention kernels keep."""

    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v, output := torch.empty_like(q))
        return output


def kept_by_unet(base_model, shape, wanted=None):
    """Bytes that autograd keeps of one picture, latents [c, h, w], for the backward pass through the UNet.

    wanted: the dtype to compute in, None for the host's. The forward pass runs on torch's meta device, which knows
    sizes and computes nothing.
    """
    unet, sizes = base_model.diffusion_model, {}
    config = base_model.model_config.unet_config
    dtype = wanted or base_model.manual_cast_dtype or base_model.get_dtype()

    def empty(*size, **kwargs):
        return torch.empty(1, *size, dtype=dtype, device="meta", **kwargs)

    def note(tensor):
        storage = tensor.untyped_storage()
        sizes[storage._cdata] = storage.nbytes()
        return tensor

    def weight_of_size(tensor):
        return torch.empty_like(tensor, device="meta", dtype=wanted if tensor.is_floating_point() else None)

    with training_mode(), borrowed([(unet, weight_of_size)]):
        weights = {weight.untyped_storage()._cdata for weight in (*unet.parameters(), *unet.buffers())}
        context = empty(77, config["context_dim"], requires_grad=True)
        y = empty(config["adm_in_channels"]) if config.get("adm_in_channels") else None
        options = {"optimized_attention_override": lambda _, q, k, v, *args, **kwargs: _MetaAttention.apply(q, k, v)}
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            unet(empty(*shape), torch.empty(1, device="meta"), context=context, y=y, transformer_options=options)
    return sum(size for storage, size in sizes.items() if storage not in weights)


def tell_memory(model, shape, pictures, dtype):
    """Log what a training step needs beside the loaded models, and what is free."""
    needed = pictures * kept_by_unet(model.model, shape, dtype)
    free = comfy.model_management.get_free_memory(model.load_device)
    logging.info(
        "ReVersion: %d pictures at once need about %.1f GB beside the models; %.1f GB are free%s",
        pictures,
        needed / 1e9,
        free / 1e9,
        "" if needed < free else ", so fewer at once will be tried",
    )
