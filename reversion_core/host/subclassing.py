"""Classes of the host with something added, made when they are met, whose objects can still be copied and pickled."""

import functools


@functools.cache
def with_added(mixin: type, kind: type) -> type:
    """A subclass of a class of the host that has its name; mixin: what is added, a class of ours."""
    if issubclass(kind, mixin):
        return kind
    about = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__reduce_ex__": lambda made, protocol: (_made, (mixin, kind), _state(made)),
    }
    return type(kind.__name__, (mixin, kind), about)


def _made(mixin, kind):
    """An object without its state: pickles find classes by their names, and these have the name of another."""
    whole = with_added(mixin, kind)
    return whole.__new__(whole)


def _state(made):
    """What is kept of an object: not what it only remembers of its work."""
    return {name: value for name, value in vars(made).items() if name not in getattr(made, "forgotten_in_copies", ())}
