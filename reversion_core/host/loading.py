"""The host's models, loaded so that every weight stays where it is during a training."""

import comfy.model_management
import torch

from ..errors import MachineError, ReVersionError
from .encoders import encoders


def load_for_training(model, clip, node: str, in_turns: bool = False):
    """MODEL and CLIP that are really loaded, each wholly on its device: to encode, train and preview with.

    in_turns: neither is loaded yet; `take_turns` does so when one is needed.

    Under dynamic VRAM weights come and go between forward and backward pass; the host then has an ordinary twin of a
    model, which is made once. LoRAs and other patches go with it. Raises a ReVersionError where a model cannot be
    loaded as a whole: the host then reuses buffers, which makes gradients wrong without an error.
    """
    given = model, clip.patcher
    model = _unmoved(model, node, "model")
    patcher = _unmoved(clip.patcher, node, "clip")
    if patcher is not clip.patcher:
        clip = clip.clone()
        clip.patcher, clip.cond_stage_model = patcher, patcher.model
    if in_turns:
        return model, clip
    try:
        comfy.model_management.load_models_gpu([model, patcher], force_full_load=True)
        check_residency(model.model.diffusion_model, model.load_device, node, "model")
        check_residency(clip.cond_stage_model, patcher.load_device, node, "clip")
    except BaseException:  # nobody else knows the twins yet
        unload_twins((model, patcher), given)
        raise
    return model, clip


def slow_encoders(model, clip) -> str:
    """A sentence where large text encoders are on the CPU though the network is not, "" else."""
    on_cpu = clip.patcher.load_device.type == "cpu" != model.load_device.type
    if not on_cpu or all(encoder.is_clip for encoder in encoders(clip).values()):
        return ""
    by_host = comfy.model_management.text_encoder_device().type == "cpu"
    cure = "start ComfyUI without --lowvram and --novram" if by_host else "load it on the device 'default'"
    return f"the text encoder is on the CPU, where a caption may take minutes; {cure}"


def can_take_turns(model, clip) -> bool:
    """Whether network and text encoders share a device, and leave it when the host unloads them."""
    device = model.load_device
    shared = device == clip.patcher.load_device
    return shared and (device.type == "cpu" or device not in (model.offload_device, clip.patcher.offload_device))


@torch.inference_mode()
def take_turns(coming, going, node: str, input_name: str):
    """Move one of two models off the device and load the other as a whole, as `load_for_training` does."""
    _unload(going)
    comfy.model_management.load_models_gpu([coming], force_full_load=True)
    weights = getattr(coming.model, "diffusion_model", coming.model)
    check_residency(weights, coming.load_device, node, input_name)


def unload_twins(models, originals):
    """Take what `load_for_training` put in the place of moving models off the device: nobody else would.

    models, originals: the patchers after and before it, in the same order.
    """
    for patcher, original in zip(models, originals, strict=True):
        if patcher is not original:
            _unload(patcher)
            # The host keeps it in ordinary memory for the next time, as long as the original is kept.
            memory = comfy.model_management.get_free_memory(torch.device("cpu"))
            if hasattr(original, "non_dynamic_delegate_model") and memory < patcher.model_size():
                original.non_dynamic_delegate_model = None


def _unload(patcher):
    management = comfy.model_management
    others = [loaded for loaded in management.current_loaded_models if loaded.model is not patcher]
    if len(others) < len(management.current_loaded_models):
        management.free_memory(1e30, patcher.load_device, keep_loaded=others)
    else:  # its loading failed half way, before the host wrote it down
        patcher.detach()


def unload_others(*patchers) -> bool:
    """Have the host move all other models off the patchers' devices; whether there were any."""
    management, found = comfy.model_management, False
    for device in {patcher.load_device for patcher in patchers}:
        ours = _entries(patchers)
        others = [e.model for e in management.current_loaded_models if e not in ours and e.device == device]
        if any(other is not None and other.offload_device != device for other in others):
            management.free_memory(1e30, device, keep_loaded=ours)
            found = True
    return found


def _entries(patchers):
    """What the host wrote down of these patchers among the models that it loaded."""
    entries = comfy.model_management.current_loaded_models
    return [entry for entry in entries if any(entry.model is patcher for patcher in patchers)]


def fit_together(device: torch.device, sizes: int) -> bool:
    """Whether so many bytes fit in a device's memory, whatever is there now.

    Some drivers lend a graphics card the computer's memory, and say nothing but become slow: nothing runs out then.
    """
    management = comfy.model_management
    return sizes + management.extra_reserved_memory() <= management.get_total_memory(device)


def make_room(device: torch.device, wanted: int, *patchers) -> int:
    """Have the host move other models off the device until so many bytes are free there; returns how many are."""
    management = comfy.model_management
    wanted += management.extra_reserved_memory()
    if management.get_free_memory(device) < wanted:
        management.free_memory(wanted, device, keep_loaded=_entries(patchers))
    return max(int(management.get_free_memory(device) - management.extra_reserved_memory()), 0)


def _unmoved(patcher, node, input_name):
    """The patcher itself, or the host's twin of one whose weights it moves about."""
    if not (hasattr(patcher, "is_dynamic") and patcher.is_dynamic()):
        return patcher
    if patcher.injections:
        raise ReVersionError(
            node,
            input_name,
            f"a node before it hangs {', '.join(map(str, patcher.injections))} on its layers, which ComfyUI's dynamic "
            "VRAM keeps from a training",
            "use Load LoRA in place of the bypass form, or start ComfyUI with --disable-dynamic-vram",
        )
    try:
        twin = patcher.get_non_dynamic_delegate()
    except RuntimeError as error:
        raise ReVersionError(
            node,
            input_name,
            "ComfyUI's dynamic VRAM moves its weights, and this loader cannot load it without that",
            "load it with one of ComfyUI's own loaders or start ComfyUI with --disable-dynamic-vram",
        ) from error
    _in_model_dtypes(twin)
    return twin


def _in_model_dtypes(twin):
    """Bring the weights of a twin to the dtypes that its model computes in, once, since the host keeps the twin.

    Where dynamic VRAM is on, the host leaves some layers the dtype of the file, and casts them only when it moves them.
    """
    if next(_of_other_dtypes(twin.model), None):
        twin.unpatch_model(twin.offload_device)  # a sampler of the host may have patched it
    for part, name, dtype in _of_other_dtypes(twin.model):
        part._parameters[name] = torch.nn.Parameter(part._parameters[name].to(dtype), requires_grad=False)


def _of_other_dtypes(network):
    """(module, name, dtype to have) of each plain weight with another one."""
    for part in network.modules():
        for name, weight in part._parameters.items():
            wanted = getattr(part, f"{name}_comfy_model_dtype", None)
            plain = type(weight) in (torch.Tensor, torch.nn.Parameter) and weight.is_floating_point()
            if plain and wanted not in (None, weight.dtype):
                yield part, name, wanted


def check_residency(module: torch.nn.Module, device: torch.device, node: str, input_name: str):
    """Raises a ReVersionError unless every weight of the module lies on the device."""
    weights = [*module.parameters(), *module.buffers()]
    elsewhere = [weight for weight in weights if weight.device.type != torch.device(device).type]
    if elsewhere:
        sizes = (sum(w.numel() * w.element_size() for w in some) / 1e9 for some in (elsewhere, weights))
        management = comfy.model_management
        if management.vram_state == management.VRAMState.NO_VRAM:
            raise MachineError(
                node,
                input_name,
                "ComfyUI, started with --novram, leaves {:.1f} of its {:.1f} GB in ordinary memory".format(*sizes),
                "start ComfyUI without --novram to train",
            )
        raise MachineError(
            node,
            input_name,
            "{:.1f} of its {:.1f} GB do not fit in the graphics card's memory".format(*sizes),
            "close other programs, load it in fp8, or use a smaller checkpoint",
        )
