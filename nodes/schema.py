"""What the schemas of some hosts know and those of others do not."""

import inspect

from comfy_api.latest import io

HAS_ALIASES = "search_aliases" in inspect.signature(io.Schema).parameters


def advanced(schema, names):
    """The schema; the page hides the inputs of these names until it is asked for the advanced ones."""
    for port in schema.inputs:
        if port.id in names:
            port.extra_dict["advanced"] = True  # a keyword of newer hosts only; all send this on to the page
    return schema


def named(name, *words):
    """Arguments of a Schema: the name of a node, and the words that the search finds it by.

    Where the search knows names only, the first of the words stands behind the name.
    """
    if HAS_ALIASES:
        return {"display_name": name, "search_aliases": list(words)}
    return {"display_name": f"{name} ({words[0]})"}
