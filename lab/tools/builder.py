"""A workflow in the making: nodes with the sockets and widgets that a running host describes, laid out for reading."""

import re
import textwrap
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lab.harness import comfyui, graphs

CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
MODEL = {
    "name": CHECKPOINT,
    "url": f"https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/{CHECKPOINT}",
    "directory": "checkpoints",
}
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
NOTE = {"input": {"required": {"text": ["STRING", {"multiline": True}]}}, "output": [], "output_name": []}
NOTE_COLOURS = {"color": "#432", "bgcolor": "#653"}
TITLE, GAP, WIDTH = 30, 40, 340
LETTER = 5.2  # pixels, the mean width of a note's letters
WINDOW = (1780, 930)  # pixels of a screen of 1920 x 1080 that the page leaves to a graph
SMALLEST_SCALE = 0.6  # at which the page's texts can still be read
# Pixels below the widgets for what a node shows when it has run.
ROOM = {
    "LoadImage": 300,
    "PreviewImage": 360,
    "ReVersionExemplars": 120,
    "ReVersionInspect": 120,
    "ReVersionLoadExemplars": 100,
    "ReVersionLoadRelation": 80,
    "ReVersionPrompts": 80,
    "ReVersionSaveRelation": 80,
    "ReVersionScore": 320,
    "ReVersionTrain": 680,
    "SaveImage": 360,
}


@dataclass(eq=False)
class Node:
    """A node of a workflow; `node[i]` is its output i, for where the type alone does not tell which.

    info: what the host says of its class; values: of widgets, where they are not the default; sources: the output that
    feeds an input; room: pixels below the widgets for what it shows when it has run; box: x, y, width, height.
    """

    id: int
    type: str
    info: dict
    title: str | None
    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, "Output"] = field(default_factory=dict)
    room: int = 0
    width: int = WIDTH
    box: tuple[int, ...] = ()

    def __getitem__(self, output: int) -> "Output":
        return self, output

    def inputs(self) -> Iterator[tuple[str, str, dict]]:
        """(name, type, options) of each input, in the host's order."""
        for section in ("required", "optional"):
            for name, (kind, *options) in self.info["input"].get(section, {}).items():
                yield name, "COMBO" if isinstance(kind, list) else kind, options[0] if options else {}

    def widgets(self) -> dict[str, dict]:
        """Options of each widget by name, in the host's order."""
        return {name: o for name, kind, o in self.inputs() if kind in WIDGETS and not o.get("forceInput")}

    def value(self, name: str) -> Any:
        """Of a widget: what was given, else the default, else the first option."""
        options = self.widgets()[name]
        if name in self.values or "default" in options:
            return self.values.get(name, options.get("default"))
        return options["options"][0] if "options" in options else ""

    def widget_values(self) -> list:
        """As the page keeps them: with what it adds beside a seed and a picture to upload."""
        values = []
        for name, options in self.widgets().items():
            values.append(self.value(name))
            if options.get("control_after_generate"):
                values.append("fixed")
            if options.get("image_upload"):
                values.append("image")
        return values

    def sockets(self) -> list[tuple[str, str]]:
        """(name, type) of each input without a widget, then of each widget that a link feeds."""
        widgets = self.widgets()
        places = [(name, kind) for name, kind, _ in self.inputs() if name not in widgets or name in self.sources]
        return sorted(places, key=lambda place: place[0] in widgets)

    def height(self) -> int:
        widgets = self.widgets()
        sockets = sum(name not in widgets for name, _ in self.sockets())
        rows = 24 * max(sockets, len(self.info["output"])) + 26 * (len(self.widget_values()) - len(widgets))
        shown = [options for options in widgets.values() if not options.get("advanced")]
        more = 30 * (len(shown) < len(widgets))  # for the button that shows the others
        return 20 + rows + sum(100 if o.get("multiline") else 26 for o in shown) + more + self.room


Output = tuple[Node, int]  # a node and the number of its output


class Workflow:
    """A workflow in the making: rows of groups from left to right, in each a note above columns of nodes."""

    def __init__(self, info: dict[str, dict], version: str):
        """info: the host's object_info; version: the host's."""
        self.info, self.nodes, self.rows = info, [], [[]]
        project = (comfyui.ROOT / "pyproject.toml").read_text(encoding="utf-8")
        name, own_version = (re.search(f'^{key} = "(.+)"', project, re.M)[1] for key in ("name", "version"))
        self.core, self.pack = {"cnr_id": "comfy-core", "ver": version}, {"cnr_id": name, "ver": own_version}

    def group(self, title: str, note: str) -> None:
        """Begin a group; what is added next goes into its first column."""
        text = Node(len(self.nodes) + 1, "MarkdownNote", NOTE, title, {"text": note})
        self.nodes.append(text)
        self.rows[-1].append((text, [[]]))

    def row(self) -> None:
        """Begin another row of groups, below the others."""
        self.rows.append([])

    def column(self) -> None:
        """Begin another column of the last group."""
        self.rows[-1][-1][1].append([])

    def add(self, kind: str, title: str | None = None, room: int | None = None, columns: int = 1, **given: Any) -> Node:
        """Add a node to the last column. given: widget values, and nodes, of which the first output of the right type
        is linked; room: as in `Node`, by default that of its class; columns: its width.
        Raises ValueError for an input that it lacks.
        """
        room = ROOM.get(kind, 0) if room is None else room
        node = Node(len(self.nodes) + 1, kind, self.info[kind], title, room=room, width=wide(columns))
        types = {name: socket for name, socket, _ in node.inputs()}
        if unknown := given.keys() - types.keys():
            raise ValueError(f"{kind} has no input {', '.join(sorted(unknown))}")
        for name, value in given.items():
            if isinstance(value, Node):
                value = value[value.info["output"].index(types[name])]
            (node.sources if isinstance(value, tuple) else node.values)[name] = value
        self.nodes.append(node)
        self.rows[-1][-1][1][-1].append(node)
        return node

    def prompt(self) -> graphs.Graph:
        """The graph in the host's API format."""
        return {
            str(node.id): graphs.node(
                node.type,
                **{name: node.value(name) for name in node.widgets() if name not in node.sources},
                **{name: [str(source.id), output] for name, (source, output) in node.sources.items()},
            )
            for node in self.nodes
            if node.info is not NOTE
        }

    def saved(self, name: str) -> dict[str, Any]:
        """The graph as the page saves it, format 0.4."""
        groups = self._lay_out()
        links = [
            (*node.sources[name], node, slot)
            for node in self.nodes
            for slot, (name, _) in enumerate(node.sockets())
            if name in node.sources
        ]
        links = [[i, a.id, out, b.id, slot, a.info["output"][out]] for i, (a, out, b, slot) in enumerate(links, 1)]
        order = execution_order(self.nodes, links)
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"reversion/{name}")),
            "revision": 0,
            "last_node_id": len(self.nodes),
            "last_link_id": len(links),
            "nodes": [self._saved_node(node, links, order.index(node.id)) for node in self.nodes],
            "links": links,
            "groups": groups,
            "config": {},
            "extra": {"ds": view(groups)},
            "version": 0.4,
        }

    def _lay_out(self) -> list[dict]:
        """Give each node its box; returns the groups' frames. A row lies below those groups only that are above it."""
        frames = []
        for row in self.rows:
            x, right = 0, sum(group_width(columns) + 2 * GAP for _, columns in row)
            above = [y + height for left, y, _, height in (f["bounding"] for f in frames) if left < right]
            top = max(above, default=-GAP - TITLE - 50) + GAP + TITLE + 50
            for note, columns in row:
                bottom = self._place(note, columns, x, top)
                width = note.box[2]
                frames.append(
                    {
                        "id": len(frames) + 1,
                        "title": note.title,
                        "bounding": [x - 20, top - TITLE - 50, width + 40, bottom - top + TITLE + 70],
                        "color": "#3f789e",
                        "font_size": 24,
                        "flags": {},
                    }
                )
                x += width + 2 * GAP
        return frames

    @staticmethod
    def _place(note: Node, columns: list[list[Node]], x: int, top: int) -> int:
        """Give the nodes of a group their boxes; returns where the lowest of them ends."""
        widths, width = column_widths(columns), group_width(columns)
        note.box = (x, top, width, note_height(note, width))
        bottom = first = top + note.box[3]
        for column, column_width in zip(columns, widths, strict=True):
            y = first + GAP + TITLE
            for node in column:
                node.box = (x, y, node.width, node.height())
                bottom = max(bottom, y + node.height())
                y += node.height() + GAP + TITLE
            x += column_width + GAP
        return bottom

    def _saved_node(self, node: Node, links: list[list], order: int) -> dict[str, Any]:
        widgets, own = node.widgets(), node.info.get("python_module", "").startswith("custom_nodes.")
        into = {slot: link for link, _, _, target, slot, _ in links if target == node.id}
        inputs = [
            {
                "name": name,
                "type": kind,
                **({"widget": {"name": name}} if name in widgets else {}),
                "link": into.get(slot),
            }
            for slot, (name, kind) in enumerate(node.sockets())
        ]
        outputs = [
            {"name": name, "type": kind, "links": [link[0] for link in links if link[1:3] == [node.id, slot]]}
            for slot, (name, kind) in enumerate(zip(node.info["output_name"], node.info["output"], strict=True))
        ]
        properties = {}
        if node.info is not NOTE:
            properties = {"Node name for S&R": node.type, **(self.pack if own else self.core)}
        if node.type == "CheckpointLoaderSimple":
            properties["models"] = [MODEL]
        return {
            "id": node.id,
            "type": node.type,
            "pos": node.box[:2],
            "size": node.box[2:],
            "flags": {},
            "order": order,
            "mode": 0,
            "inputs": inputs,
            "outputs": outputs,
            **({"title": node.title} if node.title else {}),
            "properties": properties,
            "widgets_values": node.widget_values(),
            **(NOTE_COLOURS if node.info is NOTE else {}),
        }


def wide(columns: int) -> int:
    """Pixels that so many columns take."""
    return columns * (WIDTH + GAP) - GAP


def column_widths(columns: list[list[Node]]) -> list[int]:
    """Pixels that each column of a group takes."""
    return [max((node.width for node in column), default=WIDTH) for column in columns]


def group_width(columns: list[list[Node]]) -> int:
    """Pixels that the columns of a group take together."""
    return sum(column_widths(columns)) + GAP * (len(columns) - 1)


def view(frames: list[dict]) -> dict[str, Any]:
    """Scale and offset at which the page opens the workflow: all of it, where that can still be read."""
    right = max(x + width for x, _, width, _ in (frame["bounding"] for frame in frames))
    bottom = max(y + height for _, y, _, height in (frame["bounding"] for frame in frames))
    left, top, *_ = frames[0]["bounding"]
    fitting = min(WINDOW[0] / (right - left), WINDOW[1] / (bottom - top))
    scale = round(max(SMALLEST_SCALE, min(0.8, fitting)), 3)
    return {"scale": scale, "offset": [round(90 / scale) - left, round(130 / scale) - top]}


def note_height(note: Node, width: int) -> int:
    """Pixels that the text of a note needs in a width."""
    letters_a_line = int((width - 40) / LETTER)
    paragraphs = [len(textwrap.wrap(text, letters_a_line)) for text in note.values["text"].split("\n\n")]
    return 36 + sum(15 * lines + 8 for lines in paragraphs)


def execution_order(nodes: list[Node], links: list[list]) -> list[int]:
    """Ids of the nodes in the order that the page gives them: sources first, then whatever has all its inputs."""
    waiting = {node.id: sum(link[3] == node.id for link in links) for node in nodes}
    order = [node for node, count in waiting.items() if count == 0]
    for node in order:
        for link in sorted((link for link in links if link[1] == node), key=lambda link: (link[2], link[0])):
            waiting[link[3]] -= 1
            if waiting[link[3]] == 0:
                order.append(link[3])
    return order
