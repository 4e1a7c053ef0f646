"""`make release-check` names everything that is missing, and nothing where all is there."""

import shutil

import pytest

from lab.harness import server
from lab.harness.comfyui import ROOT
from lab.tools import release

FILLED = {"Repository": "https://example.org/pack", "PublisherId": "someone", "Icon": "https://example.org/icon.png"}


@pytest.fixture
def checkout(tmp_path):
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    text = (tmp_path / "pyproject.toml").read_text()
    for name, value in FILLED.items():
        text = text.replace(f'{name} = ""', f'{name} = "{value}"')
    (tmp_path / "pyproject.toml").write_text(text)
    return tmp_path


def test_a_filled_in_checkout_with_a_changelog_can_be_released(checkout):
    assert release.missing(checkout) == []


@pytest.mark.parametrize("name", FILLED)
def test_an_empty_field_is_named(checkout, name):
    path = checkout / "pyproject.toml"
    path.write_text(path.read_text().replace(FILLED[name], ""))
    (line,) = release.missing(checkout)
    assert name in line


def test_a_version_without_a_changelog_entry_is_named(checkout):
    path = checkout / "pyproject.toml"
    path.write_text(path.read_text().replace('version = "', 'version = "9'))
    (line,) = release.missing(checkout)
    assert "CHANGELOG.md" in line


def test_the_harness_links_what_the_registry_ships_and_nothing_that_leads_back(tmp_path):
    names = server.shipped()
    assert {"__init__.py", "nodes", "reversion_core", "web", "locales", "workflows", "README.md"} <= set(names)
    assert not {"lab", "tests", "build", ".venv", ".host", ".git", "fleet", "docs"} & set(names)
    folder = server.prepare(tmp_path / "base")
    linked = {path.name for path in (folder / "custom_nodes" / server.PACK).iterdir()}
    assert linked == set(names)
