"""Chinese beside English: complete, and the same numbers, identifiers, pictures and links."""

import json
import re

import pytest

from lab.bench import memory_table
from lab.harness.comfyui import ROOT
from lab.tools import help_pages

CHINESE = re.compile("[\u4e00-\u9fff]")
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)*", re.ASCII)
FILES = {"folder", "clip_folder", "list_file", "relation"}  # inputs whose options are names on the user's disk
SIDES = ("inputs", "outputs")


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def chinese():
    return json.loads(read("locales/zh/nodeDefs.json"))


def kept(text):
    """What a translation of a Markdown text keeps: paragraphs, headings, rows, pictures and links, code, numbers."""
    return {
        "paragraphs": len(re.split(r"\n\n+", text)),
        "headings": re.findall(r"^#+ ", text, re.MULTILINE),
        "rows": len(re.findall(r"^\|", text, re.MULTILINE)),
        "links": [link for link in re.findall(r"\]\((.+?)\)", text) if not link.startswith("README")],
        "code": set(re.findall(r"`[^`\n]+`", text)),
        "numbers": set(NUMBER.findall(text)),
    }


def test_every_node_input_and_output_has_its_chinese_texts(schemas, chinese):
    assert chinese.keys() == schemas.keys()
    for name, node in chinese.items():
        english = help_pages.texts(schemas[name])
        assert node.keys() == {"display_name", *english}, name
        assert node["display_name"].startswith("ReVersion "), name
        assert CHINESE.search(node["display_name"]) and CHINESE.search(node["description"]), name
        for side in SIDES:
            assert node[side].keys() == english[side].keys(), name
            for key, port in node[side].items():
                assert port.keys() == {"name", "tooltip"} and CHINESE.search(port["tooltip"]), f"{name}: {key}"
                assert port["name"] == english[side][key]["name"], f"{name}: {key}"
                numbers = [set(NUMBER.findall(texts["tooltip"])) for texts in (port, english[side][key])]
                assert numbers[0] == numbers[1], f"{name}: {key}"


def test_every_option_is_explained_in_chinese(schemas, chinese):
    """The page translates no options: the tooltip of their input says what each of them means."""
    from comfy_api.latest import io

    for name, schema in schemas.items():
        for port in schema.inputs:
            if isinstance(port, io.Combo.Input) and port.id not in FILES:
                tooltip = chinese[name]["inputs"][port.id]["tooltip"]
                assert all(option in tooltip for option in port.options), f"{name}: {port.id}"


def test_the_menu_is_in_chinese(schemas):
    translated = json.loads(read("locales/zh/main.json"))["nodeCategories"]
    assert translated.keys() == {part for schema in schemas.values() for part in schema.category.split("/")[1:]}
    assert all(map(CHINESE.search, translated.values()))


def test_every_help_page_is_there_in_chinese(chinese):
    assert {path.parent.name for path in help_pages.PAGES.glob("*/zh.md")} == chinese.keys()
    for name, node in chinese.items():
        page = help_pages.page_path(name, "zh").read_text(encoding="utf-8")
        assert help_pages.with_tables(page, node) == page, f"{name}: run 'make pages'"
        assert page.startswith(f"# {node['display_name']} ("), name
        assert kept(page) == kept(help_pages.page_path(name, "en").read_text(encoding="utf-8")), name
        # Markdown would swallow a bare <R> as a tag.
        assert not re.search(r"(?<!`)<\w+>", re.sub(r"`[^`]*`", "", page)), name


def test_the_table_of_memory_is_written_on_both_pages_alike():
    found = [memory_table.Need(name, 512, 10**9, 10**9, 10**9, 10**8) for name in memory_table.IN_HELP]
    found.append(memory_table.Need("SDXL", 1024, 10**10, 10**9, 10**10, 10**10))
    found.append(memory_table.Need("Flux.1", 512, 1, 1, 1, 1))
    pages = {}
    for language in memory_table.HELP_WORDS:
        page = help_pages.page_path("ReVersionTrain", language).read_text(encoding="utf-8")
        pages[language] = written = memory_table.with_help(page, language, found)
        assert written.split("| SD")[0] == page.split("| SD")[0] and "| SD 1.x | 512 | 3 / 32+ |" in written
        assert "| Flux.1" not in written and memory_table.with_help(written, language, found) == written
    assert kept(pages["zh"]) == kept(pages["en"])
    assert f"| SDXL | 1024{' | no' * 4} | 1 / 1 |" in pages["en"] and f"| SDXL | 1024{' | 不行' * 4} |" in pages["zh"]


def test_the_readme_says_the_same_in_chinese(chinese):
    english, readme = read("README.md"), read("README.zh.md")
    assert kept(readme) == kept(english)
    assert "(README.zh.md)" in english and "(README.md)" in readme
    titles = [page.split("\n", 1)[0] for page in (help_pages.page_path(n, "zh").read_text("utf-8") for n in chinese)]
    assert all(title.removeprefix("# ReVersion ") in readme for title in titles)
