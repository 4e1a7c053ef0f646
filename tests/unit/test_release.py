"""`make release-check` names everything that is missing, and nothing where all is there."""

import shutil

import pytest

from micro import release
from micro.host import ROOT

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
