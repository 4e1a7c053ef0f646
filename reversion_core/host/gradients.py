"""What the host's networks need so that autograd runs through them: for a while, and without a change to any class."""

import contextlib

import comfy.clip_model
import comfy.ldm.modules.attention
import comfy.ldm.modules.diffusionmodules.openaimodel
import comfy.ldm.pixart.blocks
import comfy.model_management
import comfy.ops
import torch
import torch.nn.functional as F
from torch.multiprocessing.reductions import StorageWeakRef

try:
    import comfy_kitchen.backends.eager as kitchen
except ImportError:  # older hosts do not use it
    kitchen = None

_NORMALISATIONS = ("LayerNorm", "RMSNorm")  # ends of the names of torch's and the host's classes


@contextlib.contextmanager
def training_mode():
    """Gradients on, the host's non-differentiable kernels off, and back again.

    Of newer hosts there is a switch for most. Products in fp8, which have none, round what goes into a layer in place:
    what computes them says that it cannot, and the layer casts its weight instead. PixArt alone does not ask for the
    attention that it is to use.
    """
    attention = comfy.ldm.modules.attention.attention_pytorch
    with (
        _replaced(comfy.model_management, "in_training", True),
        _replaced(comfy.ops, "fp8_linear", lambda *_: None),
        _replaced(comfy.ldm.pixart.blocks, "optimized_attention", attention),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        yield


@contextlib.contextmanager
def _replaced(module, name, value):
    """Another value of a module's variable, where it has one."""
    if not hasattr(module, name):
        yield
        return
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextlib.contextmanager
def full_precision_products(network: torch.nn.Module):
    """Let quantised layers multiply with their dequantised weights, on hosts where nothing else has a backward pass.

    Where a file has a scale for what goes into a layer, older hosts round that first, which no gradient passes.
    """
    if hasattr(comfy.ops, "QuantLinearFunc"):
        yield
        return
    parts = [part for part in network.modules() if getattr(part, "_full_precision_mm", True) is False]
    try:
        for part in parts:
            part._full_precision_mm = True
        yield
    finally:
        for part in parts:
            part._full_precision_mm = False


class Differentiable(torch.overrides.TorchFunctionMode):
    """Operations that autograd cannot pass, replaced by equal ones that it can, on this thread inside the context.

    `torch.add(a, b, out=c)`, whose result the host's language models use: without `out`. Fused kernels of
    comfy-kitchen that were not asked by `in_training`: its own implementation in plain torch.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.add:
            kwargs = {name: value for name, value in kwargs.items() if name != "out"}
        elif isinstance(func, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
            func = _plain(func, (*args, *kwargs.values()))
        return func(*args, **kwargs)


def _plain(operation, values):
    """The differentiable form of a custom operation, where some value takes a gradient and there is one."""
    name = getattr(operation, "_qualified_op_name", "")
    if kitchen is None or not name.startswith("comfy_kitchen") or not any(map(carries_gradient, values)):
        return operation
    return getattr(kitchen, name.split("::")[-1].split(".")[0], operation)


def carries_gradient(value) -> bool:
    """Whether a value, or one inside it, takes part in autograd."""
    if torch.is_tensor(value):
        return value.requires_grad
    if isinstance(value, dict):
        return any(map(carries_gradient, value.values()))
    if isinstance(value, (tuple, list)):
        return any(map(carries_gradient, value))
    return any(map(carries_gradient, vars(value).values())) if hasattr(value, "__dataclass_fields__") else False


def is_unet(network: torch.nn.Module) -> bool:
    """Whether it is the host's UNet of SD 1.x, 2.x and SDXL, which needs none of this."""
    return isinstance(network, comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel)


@contextlib.contextmanager
def keeping_copies(*networks: torch.nn.Module):
    """Let autograd keep a copy of all that it saves but the networks' weights, so that nothing may change it in place.
    Gives the function to call where weights have moved.

    torch's own `allow_mutation_on_saved_tensors` copies only what is changed, but knows a tensor by its id and address:
    when one that it copied is freed and another takes its place, the backward pass gets the wrong one.
    """
    weights = set()

    def look():
        held = (weight for network in networks for weight in (*network.parameters(), *network.buffers()))
        # Weak references keep the addresses of weights that have moved from being an activation's.
        weights.update(StorageWeakRef(weight.untyped_storage()) for weight in held if not hasattr(weight, "_qdata"))

    def copied(tensor):
        return tensor if StorageWeakRef(tensor.untyped_storage()) in weights else tensor.detach().clone()

    look()
    with torch.autograd.graph.saved_tensors_hooks(copied, lambda tensor: tensor):
        yield look


@contextlib.contextmanager
def ready_for_backward(*networks: torch.nn.Module):
    """Let autograd go through networks that add to a block's input in place.

    Their normalisations, whose backward passes need what they were given, get copies. And of the quick GELU, written in
    two operations, torch would keep twice what silu needs.
    """
    parts = [part for network in networks for part in network.modules()]
    norms = [part for part in parts if type(part).__name__.endswith(_NORMALISATIONS)]
    quick = comfy.clip_model.ACTIVATIONS["quick_gelu"]
    perceptrons = [part for part in parts if isinstance(part, comfy.clip_model.CLIPMLP) and part.activation is quick]
    hooks = [norm.register_forward_pre_hook(_copies) for norm in norms]
    try:
        for perceptron in perceptrons:
            perceptron.activation = _quick_gelu
        yield
    finally:
        for perceptron in perceptrons:
            perceptron.activation = quick
        for hook in hooks:
            hook.remove()


def _copies(_, args):
    return tuple(value.clone() if carries_gradient(value) else value for value in args)


def _quick_gelu(x):
    """x sigmoid(1.702 x). Writes over x, which no backward pass needs."""
    return F.silu(x.mul_(1.702)).div_(1.702)
