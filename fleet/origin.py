"""Which job a file comes from: ComfyUI writes the graph into what it saves."""

import io
import json
import struct
import zlib

from PIL import Image

from .errors import HostFault

PICTURES = ("png", "webp", "jpg", "jpeg", "gif", "bmp", "tif", "tiff")
FORMATS = ("PNG", "WEBP", "JPEG", "GIF", "BMP", "TIFF")
TENSORS = ("latent", "safetensors")
EXIF_MODEL = 0x0110  # where the host writes "prompt:{...}" into a WebP
MARK = "fleet_attempt"


def comes_from(data: bytes, name: str, graph: dict, node: str) -> bool | None:
    """Whether a file was saved by this node of this graph, as far as it says; None where it says nothing.

    Only what leads to the node counts: a host keeps results, and may name the file of an earlier job whose graph
    differs elsewhere. Raises HostFault for an empty or damaged file.
    """
    made_with = _graph_in(data, name.rpartition(".")[2].lower(), name)
    if made_with is None:
        return None
    wanted = _leading_to(graph, root(node, graph))
    return bool(wanted) and wanted == _leading_to(made_with, root(node, graph))


def root(node: str, graph: dict) -> str:
    """The node of the graph that a node belongs to which the host made while it ran, such as 12.0.0.3."""
    return node if node in graph else node.split(".")[0]


def marked(graph: dict, nodes: set, mark: str) -> dict:
    """The graph with an input more at some nodes, which no node reads: the host cannot take their results from those
    that it keeps, and saves them anew."""
    again = {id_: {**graph[id_], "inputs": {**graph[id_]["inputs"], MARK: mark}} for id_ in nodes if id_ in graph}
    return graph | again


def _leading_to(graph, node):
    """Node id -> (class, inputs), of a node and all that it is linked to."""
    found, left = {}, [node]
    while left:
        id_ = left.pop()
        if id_ in found or not isinstance(graph.get(id_), dict):
            continue
        inputs = graph[id_].get("inputs")
        found[id_] = graph[id_].get("class_type"), inputs
        links = inputs.values() if isinstance(inputs, dict) else ()
        left += [link[0] for link in links if isinstance(link, list) and link and isinstance(link[0], str)]
    return found


def _graph_in(data, suffix, name):
    try:
        if suffix in PICTURES:
            text = _text_in_picture(data)
        elif suffix in TENSORS:
            (size,) = struct.unpack_from("<Q", data)
            text = json.loads(data[8 : 8 + size]).get("__metadata__", {}).get("prompt")
        elif data:
            return None
        else:
            raise ValueError("it is empty")
    except (AttributeError, EOFError, IndexError, KeyError, OSError, SyntaxError, TypeError, ValueError) as error:
        raise HostFault(f"{name}: the file is damaged ({error})") from error
    except (struct.error, zlib.error, RecursionError, Image.DecompressionBombError) as error:
        raise HostFault(f"{name}: the file is damaged ({error})") from error
    try:
        graph = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None  # a pack that writes something else under this name
    return graph if isinstance(graph, dict) else None


def _text_in_picture(data):
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        text = picture.info.get("prompt")
        if text is None and picture.format == "WEBP":
            model = str(picture.getexif().get(EXIF_MODEL, ""))
            text = model.removeprefix("prompt:") if model.startswith("prompt:") else None
        picture.verify()
    return text
