"""A workflow file, of either format, as the graph that a host's /prompt takes."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

from .errors import FleetError

LARGEST = 64 * 2**20  # bytes of a file
MUTED, BYPASSED = 2, 4
ONLY_ON_CANVAS = frozenset(("Note", "MarkdownNote", "Reroute", "PrimitiveNode"))
AFTER_GENERATE = ("fixed", "increment", "decrement", "randomize")
UPLOADS = ("image_upload", "video_upload", "audio_upload", "animated_image_upload")
FITTING = {
    "INT": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "FLOAT": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "STRING": lambda value: isinstance(value, str),
    "BOOLEAN": lambda value: isinstance(value, bool),
    "COMBO": lambda value: True,
}


@dataclass(frozen=True)
class Workflow:
    """graph: node id -> {"class_type", "inputs"}; titles: node id -> what its title bar says."""

    graph: dict
    titles: dict


def _files_own_faults(read):
    """A file that was cut or edited by hand ends in a sentence, wherever its shape is another than ComfyUI's."""

    @functools.wraps(read)
    def reading(*given):
        try:
            return read(*given)
        except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise FleetError(f"the workflow is not as ComfyUI saves it ({error!r}); export it again") from error

    return reading


def read(path: str | Path) -> dict:
    """The parsed file. Raises FleetError where it is not a workflow that can be run."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise ValueError(f"it is larger than {LARGEST // 2**20} MB")
        data = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        raise FleetError(f"{path}: cannot be read as a workflow ({error})") from error
    try:
        _check(data)
    except FleetError as error:
        raise FleetError(f"{path}: {error}") from error
    return data


@_files_own_faults
def _check(data):
    if is_canvas(data):
        subgraphs = {subgraph["id"] for subgraph in (data.get("definitions") or {}).get("subgraphs", ())}
        if any(node["type"] in subgraphs for node in data["nodes"]):
            raise FleetError("it has subgraphs; unpack them, or export the workflow in API format")
        if data.get("version") != 0.4:
            raise FleetError(f"it has version {data.get('version')} of the format, not 0.4; export it in API format")
        if not any(_runs(node) for node in data["nodes"]):
            raise FleetError("it has no nodes that run")
    elif not (isinstance(data, dict) and data and all(_is_api_node(node) for node in data.values())):
        raise FleetError("it is neither a saved workflow nor one in API format")


def is_canvas(data: object) -> bool:
    """Whether a parsed file is what the frontend saves, as against API format."""
    return isinstance(data, dict) and isinstance(data.get("nodes"), list)


def _is_api_node(node):
    return isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)


@_files_own_faults
def classes(data: dict) -> list[str]:
    """The classes of the nodes that would run."""
    if not is_canvas(data):
        return sorted({node["class_type"] for node in data.values()})
    return sorted({node["type"] for node in data["nodes"] if _runs(node)})


def _runs(node):
    return node["type"] not in ONLY_ON_CANVAS and node.get("mode", 0) not in (MUTED, BYPASSED)


@_files_own_faults
def from_api(data: dict) -> Workflow:
    """An export in API format."""
    graph = {id_: {"class_type": node["class_type"], "inputs": node["inputs"]} for id_, node in data.items()}
    titles = {id_: (node.get("_meta") or {}).get("title") or node["class_type"] for id_, node in data.items()}
    return Workflow(graph, titles)


@_files_own_faults
def from_canvas(data: dict, schemas: dict) -> Workflow:
    """A saved workflow of version 0.4.

    schemas: class -> its entry of the host's /object_info. Raises FleetError where the values stored with a node do
    not fit its schema: they are stored by position, and a guess could put them in the wrong places.
    """
    nodes = {node["id"]: node for node in data["nodes"]}
    links = {link[0]: (link[1], link[2]) for link in data["links"]}
    graph, titles = {}, {}
    for node in filter(_runs, data["nodes"]):
        sockets = node.get("inputs") or ()
        linked = {socket["name"]: _source(nodes, links, socket["link"]) for socket in sockets}
        linked = {name: value for name, value in linked.items() if value is not None}
        inputs = _widget_values(node, schemas[node["type"]]["input"], linked) | linked
        graph[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
        titles[str(node["id"])] = node.get("title") or node["type"]
    return Workflow(graph, titles)


def _source(nodes, links, link):
    """What arrives over a link: [node id, output], a primitive's value, or None where nothing does."""
    followed = set()
    while link is not None and link in links:
        if link in followed:
            raise FleetError(f"link {link} of the workflow runs in a circle")
        followed.add(link)
        id_, output = links[link]
        node = nodes[id_]
        if node.get("mode") == MUTED:
            return None
        if node["type"] == "PrimitiveNode":
            return node["widgets_values"][0]
        if node["type"] == "Reroute":
            link = node["inputs"][0]["link"]
        elif node.get("mode") == BYPASSED:
            link = _passed_through(node, output)
        else:
            return [str(id_), output]
    return None


def _passed_through(node, output):
    """The link that a bypassed node passes to an output: of the input at the same place, else the first that fits."""
    wanted, sockets = node["outputs"][output]["type"], node.get("inputs") or []
    for socket in [*sockets[output : output + 1], *sockets]:
        if wanted in (socket["type"], "*") or socket["type"] == "*":
            return socket["link"]
    return None


def _widget_values(node, schema, linked):
    """Input name -> the value that is stored for it."""
    stored = node.get("widgets_values") or []
    sections = [[(name, *_widget(spec)) for name, spec in schema.get(s, {}).items()] for s in ("required", "optional")]
    if isinstance(stored, dict):
        names = {name for section in sections for name, kind, _ in section if kind}
        return {name: value for name, value in stored.items() if name in names}
    values, rest = {}, list(stored)
    for section in sections:
        for name, kind, options in section:
            if not kind:
                continue
            if not rest and "default" in options:  # the input is newer than the workflow
                values[name] = options["default"]
                continue
            if not rest or not (name in linked or FITTING[kind](rest[0])):
                raise _misfit(node, f"nothing that fits its input '{name}'")
            values[name] = rest.pop(0)
            randomised = options.get("control_after_generate", name in ("seed", "noise_seed"))
            if randomised and rest and rest[0] in AFTER_GENERATE:
                rest.pop(0)
        if rest and any(options.get(upload) for _, _, options in section for upload in UPLOADS):
            rest.pop(0)  # the upload button
    if rest:
        raise _misfit(node, f"{len(rest)} values more than its inputs take")
    return values


def _widget(spec):
    """(kind, options) of an input in a schema; kind None where it is a socket only."""
    options = spec[1] if len(spec) > 1 else {}
    kind = "COMBO" if isinstance(spec[0], list) else options.get("widgetType", spec[0])
    return (None if options.get("forceInput") or kind not in FITTING else kind), options


def _misfit(node, what):
    title = node.get("title") or node["type"]
    return FleetError(
        f"node {node['id']} ({title}): the workflow stores {what}, as this host has it; export it in API format"
    )
