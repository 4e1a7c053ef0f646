"""`make pages`: the tables of the help pages and the English locale, written from the nodes' schemas.

The tables of another language's pages are written from its locale. That locale, and everything of a help page but its
tables, is written by hand.
"""

import importlib
import json
import re
from pathlib import Path

from lab.harness import comfyui

PAGES = comfyui.ROOT / "web" / "docs"
LOCALES = comfyui.ROOT / "locales"
ENGLISH = "en"
# A table of inputs or outputs: its head, whose second column has no name, and its rows.
TABLE = re.compile(r"(\n\| \w+ \| \|\n\|---\|---\|\n).*?\n(?=\n|\Z)", re.DOTALL)
# Signs of the page's message format: older pages read tooltips in it, and leave out what stands in braces.
MESSAGE_SIGNS = re.compile(r"[{}@|]")


def schemas() -> dict:
    """Node id -> schema of every node of the pack, loaded as the host loads it."""
    pack = comfyui.load_pack()
    nodes = importlib.import_module(f"{pack.__name__}.nodes").NODES
    return {schema.node_id: schema for schema in (node.define_schema() for node in nodes)}


def texts(schema) -> dict:
    """The texts of a node, in the form of the host's nodeDefs.json; its name is the schema's."""
    return {
        "description": schema.description,
        "inputs": {port.id: text(port) for port in schema.inputs},
        "outputs": {str(i): text(port) for i, port in enumerate(schema.outputs)},
    }


def text(port) -> dict:
    """The name of an input or output on the node, and its tooltip."""
    return {"name": port.display_name or port.id, "tooltip": port.tooltip}


def locale(schema) -> dict:
    """The texts of a node without the tooltips that older pages would misread; these are shown from the schema."""
    node = texts(schema)
    for port in [*node["inputs"].values(), *node["outputs"].values()]:
        if MESSAGE_SIGNS.search(port["tooltip"]):
            del port["tooltip"]
    return node


def table(ports) -> str:
    """The rows of a help page's table; markdown would swallow a bare <R> as a tag."""
    rows = ((port["name"], re.sub(r"(?<!`)(<[^<> ]+>)(?!`)", r"`\1`", port["tooltip"])) for port in ports)
    return "\n".join(f"| `{name}` | {tooltip} |" for name, tooltip in rows)


def with_tables(page: str, node) -> str:
    """A help page with the tables of the inputs and outputs of a node written anew from its texts."""
    tables = (table(node[side].values()) for side in ("inputs", "outputs"))
    return TABLE.sub(lambda head: f"{head[1]}{next(tables)}\n", page)


def page_path(name: str, language: str) -> Path:
    """The help page of a node where the host's page looks for it: English is what it takes for want of another."""
    return PAGES / f"{name}.md" if language == ENGLISH else PAGES / name / f"{language}.md"


def languages(found: dict) -> dict:
    """Language -> node id -> texts, of the schemas of all nodes: English from them, every other from its locale."""
    written = {path.parent.name: path for path in LOCALES.glob("*/nodeDefs.json") if path.parent.name != ENGLISH}
    return {
        ENGLISH: {name: texts(schema) for name, schema in found.items()},
        **{language: json.loads(path.read_text(encoding="utf-8")) for language, path in written.items()},
    }


def main():
    found = schemas()
    english = {name: locale(schema) for name, schema in found.items()}
    path = LOCALES / ENGLISH / "nodeDefs.json"
    path.write_text(json.dumps(english, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for language, nodes in languages(found).items():
        for name, node in nodes.items():
            path = page_path(name, language)
            path.write_text(with_tables(path.read_text(encoding="utf-8"), node), encoding="utf-8")


if __name__ == "__main__":
    main()
