"""Fingerprints of values: a text that is the same for equal values, also in another process, and differs for others.

Made for what other nodes attach to a model: functions, objects of any class, tensors, and all of these within others.
"""

import dis
import re
import types
from collections.abc import Callable, Iterator, Mapping
from functools import singledispatchmethod
from hashlib import sha256

import torch

DEPTH, COUNT = 40, 1_000_000  # of values within values: more is not the state of one thing
LONGEST = 2**18
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
    return f"{module_name(str(kind.__module__))}.{kind.__qualname__}"


def module_name(name: str) -> str:
    """A module wherever the host is installed: it loads nodes under the paths of their files, of which what follows is
    left, such as `comfy_extras/nodes_freelunch`."""
    name = re.sub(r"^(comfy_extras|custom_nodes)\.", r"\1/", name.replace("\\", "/"))
    return re.sub(r".*/(?=(comfy_extras|comfy_api_nodes|custom_nodes)/)", "", name)


class CannotFingerprint(ValueError):
    """A value whose state cannot be read, such as a lock or a generator; the text says what it is."""


def tensor_digest(tensor: torch.Tensor, sampled: bool = False) -> str:
    """dtype, shape and bytes of a tensor, wherever it lies; sampled: of a number of each row and each column.

    Of a quantised tensor (the host's, or GGUF's) the stored numbers are read. Raises CannotFingerprint where there
    are none.
    """
    kind = type(tensor)
    if hasattr(tensor, "_qdata"):
        about = getattr(tensor, "_params", None) or getattr(tensor, "_layout_params", None)
        layout = getattr(tensor, "_layout_cls", None) or getattr(tensor, "_layout_type", None)
        return hashed(
            class_name(kind), tensor_digest(tensor._qdata, sampled), Fingerprinter().fingerprint(layout, about)
        )
    about = f"{tensor.dtype} {tuple(tensor.shape)} {getattr(tensor, 'tensor_type', '')}"
    try:
        plain = tensor.detach().as_subclass(torch.Tensor)
        if plain.element_size() == 1:  # little can be done with float8 as such
            plain = plain.view(torch.uint8)
        read = (_of_rows_and_columns(plain) if sampled else plain).cpu().reshape(-1).contiguous()
        data = read.view(torch.uint8).numpy().tobytes()
    except (RuntimeError, NotImplementedError, TypeError) as error:
        problem = f"a tensor of {class_name(kind)} on {tensor.device.type} without readable numbers"
        raise CannotFingerprint(problem) from error
    return f"{about} {sha256(data).hexdigest()[:32]}"


def _of_rows_and_columns(tensor: torch.Tensor) -> torch.Tensor:
    """A number of each row and of each column of a tensor seen as a matrix: the diagonals of the squares in it, and of
    the last square the other one.

    So a row or a column that changes as a whole is seen, such as a word's in a table, and any number of a vector; of
    one longer than LONGEST, as packed weights are, evenly spaced ones.
    """
    matrix = tensor.flatten(1) if tensor.ndim > 1 else tensor.reshape(-1, 1)
    short, long = sorted(matrix.shape)
    if short < 2:
        return matrix.reshape(-1)[:: max(-(-long // LONGEST), 1)]
    tall = matrix if len(matrix) == long else matrix.t()
    down, right = tall.stride()
    squares = tall.as_strided((long // short, short), (short * down, down + right))
    return torch.cat([squares.reshape(-1), tall[-short:].flip(0).diagonal()])


class Fingerprinter:
    """Fingerprints values by what they consist of, recursively.

    Plain values count as they are written, tensors by their numbers, functions by module, qualified name, code and
    closure, classes by name or, local ones, by what they define, other objects by class and attributes (as pickle sees
    them). `_by_kind` has a case for each. Left out: devices, and what a function keeps from call to call (a variable
    of an outer function that it assigns), which is no input.

    known: id of an object -> its fingerprint; state_getters: name of a class -> function of its objects that returns
    the inputs among their state, as any value; sampled: read some numbers of each tensor, as always of parameters.
    `unidentified`: where there are values without a fingerprint and what they are, as keys; "?" stands for these.
    """

    def __init__(self, known: Mapping[int, str] = {}, state_getters: Mapping[str, Callable] = {}, sampled=False):  # noqa: B006
        self._known, self._state_getters, self._sampled = known, state_getters, sampled
        self._assigned: set[int] = set()  # cells that some function assigns
        self._start()

    def _start(self):
        self.unidentified: dict[str, None] = {}
        self._open: dict[int, int] = {}  # id of each value that is being looked into -> its depth
        self._texts: dict[int, str] = {}  # id of each value that was -> its text
        self._kept: list[object] = []  # so that no id is used again
        self._count = 0

    def fingerprints(self, values: Mapping[str, object]) -> dict[str, str]:
        """Name -> fingerprint of its value: a text as it is, "none" for an empty value."""
        self._start()
        texts = {name: self._part(name, value) for name, value in values.items()}
        if self._assigned:  # by functions that may have been met after others that read what they assign
            self._start()
            texts = {name: self._part(name, value) for name, value in values.items()}
        return texts

    def fingerprint(self, *values: object) -> str:
        """One fingerprint of all values. Raises CannotFingerprint where one has none."""
        text = self.fingerprints({"": values})[""]
        if self.unidentified:
            raise CannotFingerprint(", ".join(self.unidentified).lstrip(": "))
        return text

    def _part(self, name, value):
        self._where = name
        if isinstance(value, str):
            return value
        return "none" if value is None or (isinstance(value, (dict, list, tuple)) and not value) else self._text(value)

    def _text(self, value):
        """The fingerprint of a value at any depth; of one that contains itself, how far out it stands."""
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
            kinds = (self._state_getters.get(class_name(kind)) for kind in type(value).__mro__)
            state_of = next(filter(None, kinds), None)
            text = self._hash_parts(type(value), state_of(value)) if state_of else self._by_kind(value)
        except CannotFingerprint as error:
            text = self._give_up(str(error))
        finally:
            del self._open[key]
        self._texts[key] = text
        return text

    def _give_up(self, what):
        self.unidentified[f"{self._where}: {what}"] = None
        return "?"

    def _hash_parts(self, kind, *parts):
        """One hash of a value's class and of the fingerprints of its parts."""
        return hashed(class_name(kind), *map(self._text, parts))

    @singledispatchmethod
    def _by_kind(self, value):
        """Of an object without a case of its own: what pickle would save of it."""
        try:
            made = value.__reduce_ex__(4)
        except Exception as error:  # whatever a foreign object raises, its state is not to be seen
            raise CannotFingerprint(f"an object of {class_name(type(value))}") from error
        if isinstance(made, str):
            return self._hash_parts(type(value), made)
        call, arguments, state, *items = (*made, None, None, None)[:5]
        return self._hash_parts(type(value), call, arguments, state, *(list(part) if part else None for part in items))

    @_by_kind.register(type(None))
    @_by_kind.register(bool)
    @_by_kind.register(bytes)
    @_by_kind.register(complex)
    @_by_kind.register(type(...))
    @_by_kind.register(torch.dtype)
    @_by_kind.register(torch.Size)
    def _(self, value):
        return repr(value)

    @_by_kind.register(int)
    @_by_kind.register(float)
    @_by_kind.register(str)
    def _(self, value):
        plain = next(kind for kind in (int, float, str) if isinstance(value, kind))
        text = plain.__repr__(value)
        return text if type(value) is plain else f"{class_name(type(value))} {text}"

    @_by_kind.register
    def _(self, value: torch.device):
        return "device"

    @_by_kind.register
    def _(self, value: torch.Tensor):
        return tensor_digest(value, self._sampled or isinstance(value, torch.nn.Parameter))

    @_by_kind.register(list)
    @_by_kind.register(tuple)
    def _(self, value):
        return self._hash_parts(type(value), *value)

    @_by_kind.register(set)
    @_by_kind.register(frozenset)
    def _(self, value):
        return hashed(class_name(type(value)), *sorted(map(self._text, value)))

    @_by_kind.register(dict)
    @_by_kind.register(types.MappingProxyType)
    def _(self, value):
        return self._hash_parts(type(value), *(part for item in value.items() for part in item))

    @_by_kind.register
    def _(self, value: types.ModuleType):
        return f"module {module_name(value.__name__)}"

    @_by_kind.register
    def _(self, value: types.MethodType):
        return self._hash_parts(type(value), value.__func__, value.__self__)

    @_by_kind.register
    def _(self, value: types.BuiltinFunctionType):
        owner = value.__self__
        owner = "" if owner is None or isinstance(owner, types.ModuleType) else self._text(owner)
        return f"{class_name(value)} {owner}"

    @_by_kind.register
    def _(self, value: types.CodeType):
        return self._hash_parts(type(value), value.co_code, value.co_names, value.co_consts)

    @_by_kind.register
    def _(self, value: types.CellType):
        try:
            held = value.cell_contents
        except ValueError:
            return "empty"
        if id(value) not in self._assigned:
            return self._text(held)
        if held is not None and not isinstance(held, torch.Tensor):
            raise CannotFingerprint("what a function keeps from call to call")
        return "kept"

    @_by_kind.register
    def _(self, value: types.FunctionType):
        cells = dict(zip(value.__code__.co_freevars, value.__closure__ or (), strict=True))
        self._assigned.update(id(cells[name]) for name in _assigned_names(value.__code__) if name in cells)
        name = class_name(value)
        return self._hash_parts(
            type(value), name, value.__code__, value.__defaults__, value.__kwdefaults__, cells, vars(value)
        )

    @_by_kind.register
    def _(self, value: type):
        if "<locals>" not in value.__qualname__:
            return class_name(value)
        own = {name: part for name, part in vars(value).items() if name not in _OF_EVERY_CLASS}
        return hashed(class_name(value), self._text(own), *map(self._text, value.__bases__))

    @_by_kind.register(property)
    @_by_kind.register(classmethod)
    @_by_kind.register(staticmethod)
    def _(self, value):
        functions = (getattr(value, name, None) for name in ("fget", "fset", "fdel", "__func__"))
        return self._hash_parts(type(value), *functions)

    @_by_kind.register
    def _(self, value: torch.nn.Module):
        own = {name: part for name, part in vars(value).items() if name not in _OF_EVERY_MODULE}
        return self._hash_parts(type(value), type(value), own, dict(own_tensors(value)), value._modules, hooks(value))


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
