"""Numbers that come by link, which the host does not hold to a widget's limits."""

from numbers import Integral, Real

from comfy_api.latest import io

from ..reversion_core.errors import ReVersionError


def check_numbers(node, **values):
    """Raises a ReVersionError for a value that is not a number within the limits of the node's input of that name.

    node: its class, with NAME; NaN and infinity lie within no limits.
    """
    inputs = {port.id: port for port in node.define_schema().inputs}
    for name, value in values.items():
        port = inputs[name]
        kind, word = (Integral, "whole number") if isinstance(port, io.Int.Input) else (Real, "number")
        if not isinstance(value, kind) or not port.min <= value <= port.max:
            problem = f"{str(value)[:40]} is not a {word} from {port.min:g} to {port.max:g}"
            raise ReVersionError(node.NAME, name, problem, "enter a number in this range")
