"""The host's loaded weights, borrowed for autograd without a copy or a change."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable

import torch


def alias(tensor: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """A normal tensor without gradient over the storage of a parameter or buffer, cast only where dtype asks for it.

    Of the class of the one it stands for, with what belongs to it: quantised weights (the host's QuantizedTensor, the
    GGUF loader's) are read by class, and are never cast.
    """
    if hasattr(tensor, "_qdata"):
        return _alias_of_quantised(tensor)
    plain = tensor.as_subclass(torch.Tensor)
    normal = torch.empty(0, dtype=plain.dtype, device=plain.device)
    normal.set_(plain.untyped_storage(), plain.storage_offset(), plain.size(), plain.stride())
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        normal = normal.as_subclass(type(tensor))
        normal.__dict__.update(vars(tensor))
        return normal
    return normal.to(dtype) if dtype is not None and tensor.is_floating_point() else normal


def _alias_of_quantised(tensor):
    """The host's wrapper around integers or fp8 has no storage of its own: a new one around stand-ins of its parts."""
    about = getattr(tensor, "_params", None)
    if about is not None:
        parts = {field.name: getattr(about, field.name) for field in dataclasses.fields(about)}
        about = dataclasses.replace(about, **{n: alias(v) for n, v in parts.items() if torch.is_tensor(v)})
        return type(tensor)(alias(tensor._qdata), tensor._layout_cls, about)
    about = {name: alias(v) if torch.is_tensor(v) else v for name, v in tensor._layout_params.items()}  # 0.3.75
    return type(tensor)(alias(tensor._qdata), tensor._layout_type, about)


@contextlib.contextmanager
def borrowed(modules: Iterable[tuple[torch.nn.Module, Callable[[torch.Tensor], torch.Tensor]]]):
    """Let autograd run through modules whose weights are inference tensors.

    modules: pairs (module, function that returns a replacement for one of its tensors), such as `alias`. Every
    parameter and buffer is replaced, as are the weights of adapters that the host has put before a layer (by `alias`),
    and put back afterwards, whatever happens. Nothing is written to the weights.
    """
    taken, adapters = [], []
    try:
        for module, replacement in modules:
            for part in module.modules():
                for held in (part._parameters, part._buffers):
                    for name, tensor in held.items():
                        if tensor is not None:
                            taken.append((held, name, tensor))
                            held[name] = replacement(tensor)
                if (adapter := _adapter_before(part)) is not None:
                    adapters.append((adapter, adapter.weights))
                    adapter.weights = type(adapter.weights)(
                        alias(w) if torch.is_tensor(w) else w for w in adapter.weights
                    )
        yield
    finally:
        for adapter, weights in reversed(adapters):
            adapter.weights = weights
        for held, name, tensor in reversed(taken):
            held[name] = tensor


def _adapter_before(module):
    """The adapter whose forward stands in for the module's, by the host's `comfy.weight_adapter.bypass`."""
    hook = getattr(vars(module).get("forward"), "__self__", None)
    adapter = getattr(hook, "adapter", None)
    return adapter if isinstance(getattr(adapter, "weights", None), (tuple, list)) else None
