"""Schema, tooltips, help pages and locale hold together; node ids and the order of widgets never change."""

import json
import re

from lab.harness.comfyui import ROOT
from lab.tools import help_pages

SNAPSHOT = ROOT / "tests" / "host" / "widgets.json"


def test_everything_has_a_tooltip(schemas):
    for schema in schemas.values():
        assert schema.description and schema.display_name.startswith("ReVersion ")
        assert all(port.tooltip for port in [*schema.inputs, *schema.outputs]), schema.node_id
        # An output without one is shown by its type, so that two pictures could not be told apart.
        assert all(port.display_name for port in schema.outputs), schema.node_id


def test_every_node_has_a_help_page_that_says_what_the_tooltips_say(schemas):
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "web" / "docs").glob("*.md")}
    assert pages.keys() == schemas.keys()
    for name, schema in schemas.items():
        assert help_pages.with_tables(pages[name], help_pages.texts(schema)) == pages[name], f"{name}: run 'make pages'"
        ports = [help_pages.text(port) for port in [*schema.inputs, *schema.outputs]]
        assert all(f"| `{port['name']}` |" in pages[name] for port in ports), name
        # Markdown would swallow a bare <R> as a tag.
        assert not re.search(r"(?<!`)<\w+>", re.sub(r"`[^`]*`", "", pages[name])), name
        for heading in ("When to use it", "Example"):
            assert f"## {heading}" in pages[name], name


def test_locale_is_the_schema(schemas):
    locale = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    assert locale == {name: help_pages.locale(schema) for name, schema in schemas.items()}, "run 'make pages'"


def test_no_text_of_a_locale_is_misread_by_older_pages():
    """They leave out what stands in braces, as a placeholder; where a locale has no tooltip they show the schema's."""
    for path in help_pages.LOCALES.glob("*/nodeDefs.json"):
        for name, node in json.loads(path.read_text(encoding="utf-8")).items():
            ports = [*node["inputs"].values(), *node["outputs"].values()]
            texts = [node["description"], *(text for port in ports for text in port.values())]
            assert not any(map(help_pages.MESSAGE_SIGNS.search, texts)), f"{path}: {name}"


def test_saved_workflows_keep_their_widgets(schemas):
    """Workflows store widget values by place: inputs may only be added at the end."""
    from comfy_api.latest import io

    for name, kept in json.loads(SNAPSHOT.read_text()).items():
        widgets = [i.id for i in schemas[name].inputs if isinstance(i, io.WidgetInput)]
        assert widgets == kept, f"{name}: add what is new to the end of its row in {SNAPSHOT.name}"
