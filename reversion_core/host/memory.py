"""The memory of a training step: what it needs, and how it needs less."""

import contextlib
import logging

import comfy.model_management
import torch

from .borrowing import borrowed
from .gradients import training_mode

_CUDA_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation
_SAID = ("out of memory", "not enough memory", "can't allocate memory")

empty_cache = comfy.model_management.soft_empty_cache


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that a device has too little memory: the host's own test, and what other devices say.

    Apple's raises a plain RuntimeError, later calls on a CUDA device an AcceleratorError.
    """
    test = getattr(comfy.model_management, "is_oom", None)
    if test is not None and test(error):
        return True
    kind = comfy.model_management.OOM_EXCEPTION  # Exception itself where torch has no class for it
    if kind is not Exception and isinstance(error, kind):
        return True
    code = getattr(error, "error_code", None) == _CUDA_OUT_OF_MEMORY
    return isinstance(error, RuntimeError) and (code or any(text in str(error).lower() for text in _SAID))


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
    """Log what a training step needs beside the loaded models, and what is free. Never ends a run."""
    try:
        needed = pictures * kept_by_unet(model.model, shape, dtype)
        free = comfy.model_management.get_free_memory(model.load_device)
    except Exception as error:  # an estimate that a patched or new network does not let us make
        logging.debug("ReVersion: the memory of a training step is not known beforehand (%s)", error)
        return
    logging.info(
        "ReVersion: %d pictures at once need about %.1f GB beside the models; %.1f GB are free%s",
        pictures,
        needed / 1e9,
        free / 1e9,
        "" if needed < free else ", so fewer at once will be tried",
    )
