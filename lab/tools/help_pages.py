"""`make pages`: the tables of the help pages and the English locale, written from the nodes' schemas.

Everything of a help page but its tables is written by hand.
"""

import importlib.util
import json
import re
import sys

from lab.harness import comfyui

PAGES = comfyui.ROOT / "web" / "docs"
LOCALE = comfyui.ROOT / "locales" / "en" / "nodeDefs.json"


def schemas() -> dict:
    """Node id -> schema of every node of the pack, loaded as the host loads it."""
    comfyui.enter()
    root = comfyui.ROOT
    spec = importlib.util.spec_from_file_location("pack", root / "__init__.py", submodule_search_locations=[str(root)])
    sys.modules["pack"] = pack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)
    nodes = importlib.import_module("pack.nodes").NODES
    return {schema.node_id: schema for schema in (node.define_schema() for node in nodes)}


def shown(port) -> str:
    """The name of an input or output on the node."""
    return port.display_name or port.id


def table(ports) -> str:
    """The rows of a help page's table; markdown would swallow a bare <R> as a tag."""
    code = [re.sub(r"(?<!`)(<[^<> ]+>)(?!`)", r"`\1`", port.tooltip) for port in ports]
    return "\n".join(f"| `{shown(port)}` | {text} |" for port, text in zip(ports, code, strict=True))


def with_tables(page: str, schema) -> str:
    """A help page with the tables of its inputs and outputs written anew."""
    for heading, column, ports in (("Inputs", "input", schema.inputs), ("Outputs", "output", schema.outputs)):
        text = f"## {heading}\n\n| {column} | |\n|---|---|\n{table(ports)}\n"
        page = re.sub(rf"## {heading}\n\n\|.*?\n(?=\n|\Z)", lambda _, text=text: text, page, flags=re.DOTALL)
    return page


def locale(schema) -> dict:
    """The texts of a node, in the form of the host's nodeDefs.json; its name is the schema's."""
    return {
        "description": schema.description,
        "inputs": {port.id: {"name": shown(port), "tooltip": port.tooltip} for port in schema.inputs},
        "outputs": {str(i): {"name": shown(port), "tooltip": port.tooltip} for i, port in enumerate(schema.outputs)},
    }


def main():
    found = schemas()
    for name, schema in found.items():
        path = PAGES / f"{name}.md"
        path.write_text(with_tables(path.read_text(encoding="utf-8"), schema), encoding="utf-8")
    text = json.dumps({name: locale(schema) for name, schema in found.items()}, indent=2, ensure_ascii=False)
    LOCALE.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
