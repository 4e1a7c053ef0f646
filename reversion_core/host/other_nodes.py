"""What other nodes have plugged into MODEL and CLIP: used in training as the host's sampler uses it, or refused."""

import contextlib
import logging
import types
from collections.abc import Iterable

import comfy.model_patcher
import comfy.patcher_extension
import torch

from ..errors import ReVersionError
from .fingerprint import module_name

# File of a patch's function -> the node: these change the network at random in every pass.
_AT_RANDOM = {"comfy_extras/nodes_hypertile": "HyperTile", "comfy_extras/nodes_tomesd": "Tome Patch Model"}
_WITHOUT_BACKWARD = ("W4A4", "W4A8")  # in the names of the host's layouts of quantised weights
_NESTED = 8  # levels of containers and objects in which a patch's networks are looked for
_COMPILE_KEY = "torch.compile"  # comfy_api.torch_helpers.torch_compile.COMPILE_KEY


def check_other_nodes(model, clip, node: str):
    """Refuse what would make the learned relation wrong. Raises a ReVersionError that names the node to take out."""
    options = model.model_options.get("transformer_options", {})
    for function in _functions(options.get("patches", {})):
        if name := _AT_RANDOM.get(module_name(str(getattr(function, "__module__", "")))):
            raise ReVersionError(
                node,
                "model",
                f"{name} changes the network at random in every pass, which makes gradients wrong",
                "connect the model without it for training; sampling with it is fine",
            )
    if (cache := options.get("easycache")) is not None:
        name = type(cache).__name__.removesuffix("Holder")  # EasyCache or LazyCache
        raise ReVersionError(
            node,
            "model",
            f"{name} skips passes through the network, which makes gradients wrong",
            "connect the model without it for training; sampling with it is fine",
        )
    for key, patch in model.object_patches.items():
        if hasattr(patch, "_orig_mod"):  # torch.compile's OptimizedModule
            raise ReVersionError(
                node, "model", f"'{key}' was compiled by another node", "plug the model in before it is compiled"
            )
    sampling = type(model.get_model_object("model_sampling"))
    if any(kind.__name__.startswith("IMG_TO_IMG") for kind in sampling.__mro__):
        raise ReVersionError(
            node,
            "model",
            "its sampling starts from a picture and adds no noise, so that there is nothing to learn from",
            "plug the model in without ModelSamplingDiscrete, or choose another sampling there",
        )
    network = model.model.diffusion_model
    if quantised := next((p for p in network.modules() if type(p).__module__.startswith("nunchaku")), None):
        raise ReVersionError(
            node,
            "model",
            f"nunchaku's {type(quantised).__name__} has no backward pass",
            "load an fp8 or GGUF checkpoint instead",
        )
    for name, part in (("model", network), ("clip", clip.cond_stage_model)):
        layouts = {str(getattr(weight, "_layout_cls", "")) for weight in part.parameters()}
        if any(products in layout for layout in layouts for products in _WITHOUT_BACKWARD):
            raise ReVersionError(
                node,
                name,
                "its weights of 4 bits have no backward pass in ComfyUI",
                "load an fp8, int8 or GGUF checkpoint instead",
            )
    if clip.patcher.forced_hooks is not None:
        raise ReVersionError(
            node, "clip", "it has hooks, which change it in the course of sampling", "plug in the CLIP without them"
        )


def _functions(patches):
    """Every function in the host's nested patches."""
    if isinstance(patches, dict):
        patches = patches.values()
    elif not isinstance(patches, (list, tuple)):
        return [patches]
    return [function for inner in patches for function in _functions(inner)]


@contextlib.contextmanager
def without_dropout(modules: Iterable[torch.nn.Module]):
    """Switch off what would change networks at random in every pass: some hypernetworks bring it along."""
    active = [part for m in modules for part in m.modules() if isinstance(part, torch.nn.Dropout) and part.training]
    try:
        for part in active:
            part.training = False
        yield
    finally:
        for part in active:
            part.training = True


def modules_of_patches(model) -> list[torch.nn.Module]:
    """The networks that patches bring along, such as the ones of Load Hypernetwork."""
    options, found, seen = model.model_options, [], set()
    given = [options.get("transformer_options"), options.get("model_function_wrapper"), model.wrappers]
    for _ in range(_NESTED):
        given = [value for value in given if id(value) not in seen]
        seen.update(map(id, given))
        found += [value for value in given if isinstance(value, torch.nn.Module)]
        given = [inner for value in given for inner in _held_by(value)]
    return found


def _held_by(value):
    """What a container, a function or a patch that is an object holds."""
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, (list, tuple, set)):
        return list(value)
    if isinstance(value, types.MethodType):
        return [value.__self__]
    if isinstance(value, types.FunctionType):
        empty = types.CellType()
        return [cell.cell_contents for cell in value.__closure__ or () if cell != empty]
    known = isinstance(value, (torch.nn.Module, torch.Tensor, type, types.ModuleType, comfy.model_patcher.ModelPatcher))
    return [] if known else list(getattr(value, "__dict__", {}).values())


def transformer_options(model, attention) -> dict:
    """The options that the host's sampler hands to the network, but for the noise levels; attention: to use instead of
    the host's choice."""
    options = comfy.patcher_extension.copy_nested_dicts(model.model_options.get("transformer_options", {}))
    for name in ("wrappers", "callbacks"):
        held = {kind: dict(by_key) for kind, by_key in getattr(model, name).items()}
        if any([by_key.pop(_COMPILE_KEY, None) for by_key in held.values()]):
            logging.info("ReVersion: the model is trained uncompiled, which gives the same numbers")
        options[name] = comfy.patcher_extension.merge_nested_dicts(options.get(name, {}), held)
    options["optimized_attention_override"] = attention
    options["cond_or_uncond"] = [0]
    return options


def is_patched(model) -> bool:
    """Whether other nodes act on the network: then samples go through it one at a time, since what they do may depend
    on the noise level, which is one number in the host's sampler."""
    options = model.model_options.get("transformer_options", {})
    held = (*model.wrappers.values(), *options.get("wrappers", {}).values())
    acting = [options.get("patches"), options.get("patches_replace"), model.model_options.get("model_function_wrapper")]
    return any(acting) or any(by_key.keys() - {_COMPILE_KEY} for by_key in held)


def apply_model(model, x_t: torch.Tensor, sigma: torch.Tensor, conds: dict) -> torch.Tensor:
    """Denoised latents from the host's model, through the function that a node may have put around it."""
    if (wrapper := model.model_options.get("model_function_wrapper")) is not None:
        return wrapper(model.model.apply_model, {"input": x_t, "timestep": sigma, "c": conds, "cond_or_uncond": [0]})
    return model.model.apply_model(x_t, sigma, **conds)
