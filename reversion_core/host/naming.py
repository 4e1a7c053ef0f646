"""Any value as a text that is the same for equal values, also in another process, and differs for others."""

import dis
import types
from collections.abc import Callable, Iterator, Mapping
from functools import singledispatchmethod
from hashlib import sha256

import torch

DEPTH, COUNT = 40, 1_000_000  # of values within values: more is not the state of one thing
SAMPLED = 64
_OF_EVERY_MODULE = frozenset(vars(torch.nn.Module()))
_OF_EVERY_CLASS = {"__module__", "__dict__", "__weakref__", "__doc__", "__qualname__", "__firstlineno__"}


def hashed(*texts: str) -> str:
    """32 hex digits that change with any of the texts."""
    digest = sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()[:32]


def class_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


class Unnameable(ValueError):
    """A value whose state cannot be seen; the text says what it is."""


def tensor_digest(tensor: torch.Tensor, sampled: bool = False) -> str:
    """dtype, shape and bytes of a tensor, wherever it lies; sampled: of at most SAMPLED evenly spaced values.

    Of a quantised tensor (the host's, or GGUF's) the stored numbers are read. Raises Unnameable where there are none.
    """
    kind = type(tensor)
    if hasattr(tensor, "_qdata"):
        about = getattr(tensor, "_params", None) or getattr(tensor, "_layout_params", None)
        layout = getattr(tensor, "_layout_cls", None) or getattr(tensor, "_layout_type", None)
        return hashed(class_name(kind), tensor_digest(tensor._qdata, sampled), Naming().text(layout, about))
    about = f"{tensor.dtype} {tuple(tensor.shape)} {getattr(tensor, 'tensor_type', '')}"
    try:
        flat = tensor.detach().as_subclass(torch.Tensor).reshape(-1)
        if sampled:
            flat = flat[:: max(-(-len(flat) // SAMPLED), 1)]
        data = flat.cpu().contiguous().view(torch.uint8).numpy().tobytes()
    except (RuntimeError, NotImplementedError, TypeError) as error:
        raise Unnameable(f"a tensor of {class_name(kind)} on {tensor.device.type} without readable numbers") from error
    return f"{about} {sha256(data).hexdigest()[:32]}"


class Naming:
    """Names values by what they consist of: plain values as they are, tensors by their numbers, functions and classes
    by module, qualified name, code and closure, other objects by class and attributes, all of it recursively.

    known: id of an object -> its name; stand_ins: name of a class -> function of its objects that returns the inputs
    among their state, any value; sampled: read tensors by some of their numbers, as parameters always are. Devices
    have no name. What a function keeps from call to call (a variable that it assigns and that is not its own) is not
    an input. `unnamed` gathers what cannot be named, in words.
    """

    def __init__(self, known: Mapping[int, str] = {}, stand_ins: Mapping[str, Callable] = {}, sampled=False):  # noqa: B006
        self._known, self._stand_ins, self._sampled = known, stand_ins, sampled
        self._assigned: set[int] = set()  # cells that some function assigns
        self._start()

    def _start(self):
        self.unnamed: dict[str, None] = {}
        self._open: dict[int, int] = {}
        self._texts: dict[int, str] = {}
        self._kept: list[object] = []  # so that no id is used again
        self._count = 0

    def names(self, values: Mapping[str, object]) -> dict[str, str]:
        """Name -> text of its value, "none" for an empty one."""
        self._start()
        texts = {name: self._part(name, value) for name, value in values.items()}
        if self._assigned:  # by functions that may have been met after others that read what they assign
            self._start()
            texts = {name: self._part(name, value) for name, value in values.items()}
        return texts

    def text(self, *values: object) -> str:
        """The text of values as one. Raises Unnameable for what cannot be named."""
        text = self.names({"": values})[""]
        if self.unnamed:
            raise Unnameable(", ".join(self.unnamed).lstrip(": "))
        return text

    def _part(self, name, value):
        self._where = name
        if isinstance(value, str):
            return value
        return "none" if value is None or (isinstance(value, (dict, list, tuple)) and not value) else self._text(value)

    def _text(self, value):
        key = id(value)
        if key in self._known:
            return self._known[key]
        if key in self._open:
            return f"^{len(self._open) - self._open[key]}"
        if key in self._texts:
            return self._texts[key]
        self._count += 1
        if len(self._open) > DEPTH or self._count > COUNT:
            return self._give_up(f"the inner parts of {class_name(type(value))}")
        self._kept.append(value)
        self._open[key] = len(self._open)
        try:
            kinds = (self._stand_ins.get(class_name(kind)) for kind in type(value).__mro__)
            stand_in = next(filter(None, kinds), None)
            text = self._whole(type(value), stand_in(value)) if stand_in else self._name(value)
        except Unnameable as error:
            text = self._give_up(str(error))
        finally:
            del self._open[key]
        self._texts[key] = text
        return text

    def _give_up(self, what):
        self.unnamed[f"{self._where}: {what}"] = None
        return "?"

    def _whole(self, kind, *parts):
        return hashed(class_name(kind), *map(self._text, parts))

    @singledispatchmethod
    def _name(self, value):
        try:
            made = value.__reduce_ex__(4)
        except Exception as error:  # whatever a foreign object raises, its state is not to be seen
            raise Unnameable(f"an object of {class_name(type(value))}") from error
        if isinstance(made, str):
            return self._whole(type(value), made)
        call, arguments, state, *items = (*made, None, None, None)[:5]
        return self._whole(type(value), call, arguments, state, *(list(part) if part else None for part in items))

    @_name.register(type(None))
    @_name.register(bool)
    @_name.register(bytes)
    @_name.register(complex)
    @_name.register(type(...))
    @_name.register(torch.dtype)
    @_name.register(torch.Size)
    def _(self, value):
        return repr(value)

    @_name.register(int)
    @_name.register(float)
    @_name.register(str)
    def _(self, value):
        plain = next(kind for kind in (int, float, str) if isinstance(value, kind))
        text = plain.__repr__(value)
        return text if type(value) is plain else f"{class_name(type(value))} {text}"

    @_name.register
    def _(self, value: torch.device):
        return "device"

    @_name.register
    def _(self, value: torch.Tensor):
        return tensor_digest(value, self._sampled or isinstance(value, torch.nn.Parameter))

    @_name.register(list)
    @_name.register(tuple)
    def _(self, value):
        return self._whole(type(value), *value)

    @_name.register(set)
    @_name.register(frozenset)
    def _(self, value):
        return hashed(class_name(type(value)), *sorted(map(self._text, value)))

    @_name.register(dict)
    @_name.register(types.MappingProxyType)
    def _(self, value):
        return self._whole(type(value), *(part for item in value.items() for part in item))

    @_name.register
    def _(self, value: types.ModuleType):
        return f"module {value.__name__}"

    @_name.register
    def _(self, value: types.MethodType):
        return self._whole(type(value), value.__func__, value.__self__)

    @_name.register
    def _(self, value: types.BuiltinFunctionType):
        owner = value.__self__
        owner = "" if owner is None or isinstance(owner, types.ModuleType) else self._text(owner)
        return f"{value.__module__}.{value.__qualname__} {owner}"

    @_name.register
    def _(self, value: types.CodeType):
        return self._whole(type(value), value.co_code, value.co_names, value.co_consts)

    @_name.register
    def _(self, value: types.CellType):
        try:
            held = value.cell_contents
        except ValueError:
            return "empty"
        if id(value) not in self._assigned:
            return self._text(held)
        if held is not None and not isinstance(held, torch.Tensor):
            raise Unnameable("what a function keeps from call to call")
        return "kept"

    @_name.register
    def _(self, value: types.FunctionType):
        cells = dict(zip(value.__code__.co_freevars, value.__closure__ or (), strict=True))
        self._assigned.update(id(cells[name]) for name in _assigned_names(value.__code__) if name in cells)
        name = f"{value.__module__}.{value.__qualname__}"
        return self._whole(
            type(value), name, value.__code__, value.__defaults__, value.__kwdefaults__, cells, vars(value)
        )

    @_name.register
    def _(self, value: type):
        if "<locals>" not in value.__qualname__:
            return class_name(value)
        own = {name: part for name, part in vars(value).items() if name not in _OF_EVERY_CLASS}
        return hashed(class_name(value), self._text(own), *map(self._text, value.__bases__))

    @_name.register(property)
    @_name.register(classmethod)
    @_name.register(staticmethod)
    def _(self, value):
        functions = (getattr(value, name, None) for name in ("fget", "fset", "fdel", "__func__"))
        return self._whole(type(value), *functions)

    @_name.register
    def _(self, value: torch.nn.Module):
        own = {name: part for name, part in vars(value).items() if name not in _OF_EVERY_MODULE}
        return self._whole(type(value), type(value), own, dict(own_tensors(value)), value._modules, hooks(value))


def own_tensors(module: torch.nn.Module, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) of the parameters of a module at a path and of the buffers that a checkpoint keeps."""
    for name, tensor in {**module._parameters, **module._buffers}.items():
        if tensor is not None and name not in module._non_persistent_buffers_set:
            yield f"{path}.{name}" if path else name, tensor


def hooks(module: torch.nn.Module) -> list[Callable]:
    """The functions that were hung on a module."""
    names = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return [hook for name in names for hook in getattr(module, name).values()]


def _assigned_names(code):
    """Names of outer variables that a function, or one within it, assigns."""
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    own = {step.argval for step in dis.get_instructions(code) if step.opname == "STORE_DEREF"}
    return (own | {name for part in inner for name in _assigned_names(part)}) & {*code.co_freevars}
