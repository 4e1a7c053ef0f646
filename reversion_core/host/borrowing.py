"""The host's loaded weights, borrowed for autograd without a copy or a change."""

import contextlib
import hashlib

import comfy.model_management
import torch


def alias(tensor, dtype=None):
    """A normal tensor without gradient over the storage of a parameter or buffer, cast only where dtype asks for it."""
    normal = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    normal.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())
    return normal.to(dtype) if dtype is not None and tensor.is_floating_point() else normal


@contextlib.contextmanager
def borrowed(modules):
    """Let autograd run through modules whose weights are inference tensors: pairs of a module and its stand-ins' maker.

    Every parameter and buffer is stood in for by what the maker (such as `alias`) returns for it, and put back
    afterwards, whatever happens. Nothing is written to the weights.
    """
    taken = []
    try:
        for module, stand_in in modules:
            for part in module.modules():
                for held in (part._parameters, part._buffers):
                    for name, tensor in held.items():
                        if tensor is not None:
                            taken.append((held, name, tensor))
                            held[name] = stand_in(tensor)
        yield
    finally:
        for held, name, tensor in reversed(taken):
            held[name] = tensor


@contextlib.contextmanager
def training_mode():
    """Gradients on, the host's non-differentiable kernels off (where it has the switch), and back again."""
    management = comfy.model_management
    before = getattr(management, "in_training", None)
    if before is not None:
        management.in_training = True
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        if before is not None:
            management.in_training = before


def load_for_training(model, clip, node):
    """MODEL and CLIP wholly on their devices, in forms that do not move weights about during a step."""
    if hasattr(model, "is_dynamic") and model.is_dynamic():
        model = model.clone(disable_dynamic=True)
    if hasattr(clip.patcher, "is_dynamic") and clip.patcher.is_dynamic():
        clip = clip.clone(disable_dynamic=True)
    comfy.model_management.load_models_gpu([model, clip.patcher], force_full_load=True)
    return model, clip


def fingerprint(*modules):
    """Hash of the weights a run depends on: shapes and 64 evenly spaced values of every tensor, as hex."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            if "text_projection" in name and not name.startswith("clip_g"):
                continue  # only clip_g's is used; the host leaves the others as the memory was, anew at every load
            flat = tensor.detach().flatten()
            picked = flat[:: max(len(flat) // 64, 1)][:64].float().cpu()
            digest.update(f"{name} {tuple(tensor.shape)}".encode() + picked.numpy().tobytes())
    return digest.hexdigest()
