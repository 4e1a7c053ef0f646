"""Running out of memory, as every device says it."""

import contextlib

import comfy.model_management

_CUDA_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation
# The last ones: of libraries with memory of their own, on a full CUDA device, and of a single tensor on Apple's.
_SAID = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cublas_status_alloc_failed",
    "cublas_status_not_initialized",
    "cudnn_status_alloc_failed",
    "invalid buffer size",
)

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
def out_of_memory_as(make_error):
    """A context that raises make_error() in place of an error that says that a device has too little memory."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise make_error() from error
        raise
