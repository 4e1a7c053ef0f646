"""What a training run depends on in MODEL, CLIP and VAE, in names that equal graphs share."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import comfy.model_management
import comfyui_version
import torch

from .fingerprint import CannotFingerprint, Fingerprinter, class_name, hashed, hooks, own_tensors, tensor_digest

# What the host and its wrappers of a model hold beside what they compute: memory, devices, and what is named apart.
_NOT_OF_CLIP = {"patcher", "cond_stage_model", "tokenizer"}
_NOT_OF_VAE = {"patcher", "first_stage_model", "device", "output_device", "size"}
_NOT_OF_TOKENIZER = {"embedding_directory", "inv_vocab"}
_OF_PATCHER = {
    "options": ("model_options", "wrappers", "callbacks"),
    "objects": ("object_patches", "force_cast_weights"),
    "injections": ("injections", "attachments", "additional_models", "weight_wrapper_patches"),
    "hooks": ("forced_hooks",),
}


@dataclass(frozen=True)
class Identity:
    """parts: readable name of an input -> its fingerprint; unidentified: the inputs that have none, in words.

    Two runs with equal parts and nothing unidentified train on the same models. A run with something unidentified must
    neither be looked up nor kept under the parts.
    """

    parts: dict[str, str]
    unidentified: tuple[str, ...]


def model_identity(model, clip, vae) -> Identity:
    """The Identity of the host's MODEL, CLIP and VAE.

    Made of inputs only: weights without what is patched into them at the moment (a number of each row and column), the
    patches, the sampling, everything that other nodes attached, dtypes; never of devices or of what is loaded. Nothing
    is loaded or computed. A module-level variable that a patch reads, and a file that it opens, are not seen.
    """
    unet, first_stage = model.model, getattr(vae, "first_stage_model", None)
    values = {
        "model class": [type(unet), type(unet.model_config), unet.model_type, unet.model_config.unet_config],
        "latent format": model.get_model_object("latent_format"),
        "sampling": model.get_model_object("model_sampling"),
        "compute dtype": f"{unet.get_dtype()} in {model.get_model_object('manual_cast_dtype') or unet.get_dtype()}",
        "clip": [type(clip), _others(clip, _NOT_OF_CLIP)],
        "clip skip": str(clip.layer_idx),
        "tokenizer": clip.tokenizer,
        "vae": [type(vae), type(first_stage), _others(vae, _NOT_OF_VAE)],
    }
    patchers = {"model": model, "clip": clip.patcher, "vae": getattr(vae, "patcher", None)}
    parts, unidentified = {}, []
    if patchers["vae"] is None:
        del patchers["vae"]
        unidentified.append(f"vae weights: an object of {class_name(type(vae))}")
    with contextlib.ExitStack() as ejected:
        for patcher in patchers.values():
            ejected.enter_context(patcher.use_ejected())
        known = _paths(patchers)
        exact, sampled = Fingerprinter(known, _STATE_GETTERS), Fingerprinter(known, _STATE_GETTERS, sampled=True)
        for name, patcher in patchers.items():
            try:
                parts[f"{name} weights"] = _weights(patcher)
            except CannotFingerprint as error:
                unidentified.append(f"{name} weights: {error}")
            values |= {f"{name} {part}": value for part, value in _attached(patcher).items()}
        parts |= sampled.fingerprints({f"{name} patches": _patches(patcher) for name, patcher in patchers.items()})
        parts |= exact.fingerprints(values)
    return Identity(parts, (*unidentified, *sampled.unidentified, *exact.unidentified))


def provenance(model, clip) -> dict[str, object]:
    """For the metadata of a relation: versions, device, dtype, prediction, clip skip and patches of MODEL and CLIP."""
    sampling, device = model.get_model_object("model_sampling"), model.load_device
    return {
        "comfyui": comfyui_version.__version__,
        "torch": torch.__version__,
        "device": comfy.model_management.get_torch_device_name(device),
        "compute_dtype": str(model.get_model_object("manual_cast_dtype") or model.model.get_dtype()),
        "prediction": " ".join(kind.__name__ for kind in type(sampling).__bases__),
        "clip_skip": clip.layer_idx,
        "model_patches": _summary(model),
        "clip_patches": _summary(clip.patcher),
    }


def _summary(patcher):
    """How many weights are patched (the host keeps no names of LoRAs), and what else other nodes attached."""
    depth = max((sum(strength != 0 for strength, *_ in stack) for stack in patcher.patches.values()), default=0)
    attached = [*patcher.object_patches.keys() - {"manual_cast_dtype"}, *patcher.injections, *patcher.attachments]
    options = patcher.model_options["transformer_options"]
    functions = [name for group in ("patches", "patches_replace") for name in options.get(group, {})]
    stacked = [f"{depth} on {len(patcher.patches)} weights"] if depth else []
    return ", ".join([*stacked, *map(str, attached), *functions])


def _modules(patcher) -> dict[str, torch.nn.Module]:
    """Path -> module of the model as it was loaded, whatever a clone of it that is in use has put in its place."""
    found = dict(patcher.model.named_modules())
    for place, original in patcher.object_patches_backup.items():
        found = {path: part for path, part in found.items() if path != place and not path.startswith(f"{place}.")}
        if isinstance(original, torch.nn.Module):
            found |= original.named_modules(prefix=place)
    return found


def _paths(patchers) -> dict[int, str]:
    """id of each module of some models -> where it is; the sampling is named by what it is."""
    return {
        id(part): f"{name}.{path}"
        for name, patcher in patchers.items()
        for path, part in _modules(patcher).items()
        if path.split(".")[0] != "model_sampling"
    }


def _functions(patcher):
    """Path -> what was hung on a module, or put in place of its forward, without the patcher's doing."""
    found = {}
    for path, part in _modules(patcher).items():
        forward = vars(part).get("forward")
        if f"{path}.forward" in patcher.object_patches_backup or _is_of_host(forward, part):
            forward = None
        if functions := [*hooks(part), *filter(None, [forward])]:
            found[path] = functions
    return found


def _is_of_host(forward, module):
    """Whether a forward is the module's own, put back, or of a bypass LoRA that another clone of the model uses."""
    owner = getattr(forward, "__self__", None)
    own = owner is module and getattr(forward, "__func__", None) is type(module).forward
    return own or type(owner).__name__ == "BypassForwardHook"


def _others(value, left_out):
    return {name: part for name, part in getattr(value, "__dict__", {}).items() if name not in left_out}


def _attached(patcher):
    """What else than weights and patches of weights a patcher brings, by the names of _OF_PATCHER."""
    values = {
        name: {attribute: held for attribute in attributes if (held := getattr(patcher, attribute, None))}
        for name, attributes in _OF_PATCHER.items()
    }
    if values["options"].get("model_options") == {"transformer_options": {}}:
        del values["options"]["model_options"]
    return values | {"functions": _functions(patcher)}


def _patches(patcher):
    """What is added to weights, by their names; by the names alone in order."""
    hooked = list(getattr(patcher, "hook_patches", {}).values())
    return {
        name: found for name, found in (("weights", dict(sorted(patcher.patches.items()))), ("hooks", hooked)) if found
    }


def _weights(patcher) -> str:
    """Hash of the classes and weights as they were loaded, whatever is patched into them in place at the moment."""
    originals = {name: kept.weight for name, kept in patcher.backup.items()}
    originals |= getattr(patcher, "backup_buffers", {})
    for name, (weight, _) in patcher.hook_backup.items():
        originals.setdefault(name, weight)
    texts = []
    for path, part in sorted(_modules(patcher).items()):
        texts.append(f"{path} {class_name(type(part))}")
        for name, tensor in own_tensors(part, path):
            if "text_projection" in name and not name.startswith("clip_g"):
                continue  # only clip_g's is used; the host leaves the others as the memory was, anew at every load
            tensor, dtype = originals.get(name, tensor), _computed_in(part, name)
            if dtype is not None and _is_cast_in_place(part):
                tensor = tensor.to(dtype)
            texts.append(f"{name} {dtype or ''} {tensor_digest(tensor, sampled=True)}")
    return hashed(*texts)


def _computed_in(module, name):
    """The dtype that newer hosts cast a weight to when they load it, None for its own."""
    return getattr(module, f"{name.rpartition('.')[2]}_comfy_model_dtype", None)


def _is_cast_in_place(module):
    """Whether dynamic VRAM casts the module's own weights for good: of those that hold modules with weights."""
    return any(next(inner.parameters(), None) is not None for inner in module.children())


def _injected(hook):
    """A bypass LoRA as it is computed: for good cast to the dtype of the weight beside it, at its first use."""
    weight = getattr(hook.module, "weight", None)
    cast = weight is not None and weight.dtype in (torch.float32, torch.float16, torch.bfloat16)
    numbers = [
        part.to(weight.dtype) if cast and isinstance(part, torch.Tensor) else part
        for part in getattr(hook.adapter, "weights", [])
    ]
    return [hook.module, type(hook.adapter), numbers, hook.multiplier]


# Name of a class of the host, or below it -> its inputs; the rest is what it computed or remembers.
_STATE_GETTERS: dict[str, Callable] = {
    "comfy.model_patcher.ModelPatcher": lambda patcher: [_weights(patcher), _patches(patcher), _attached(patcher)],
    "comfy.hooks.HookGroup": lambda group: group.hooks,
    "comfy.hooks.HookKeyframeGroup": lambda group: group.keyframes,
    "comfy.hooks.HookKeyframe": lambda frame: [frame.strength, frame.start_percent, frame.guarantee_steps],
    "comfy.weight_adapter.base.WeightAdapterBase": lambda adapter: _others(adapter, {"loaded_keys"}),
    "comfy.sd1_clip.SDTokenizer": lambda tokenizer: _others(tokenizer, _NOT_OF_TOKENIZER),
    "comfy.weight_adapter.bypass.BypassInjectionManager": lambda manager: manager.hooks,
    "comfy.weight_adapter.bypass.BypassForwardHook": _injected,
    "torch._dynamo.eval_frame.OptimizedModule": lambda module: module._orig_mod,
    "transformers.tokenization_utils_base.PreTrainedTokenizerBase": len,
}
