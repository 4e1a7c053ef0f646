"""What is shipped: what `make release-check` still misses, where links lead, and what the harness links."""

import re
import shutil
import subprocess
import sys

import pytest

from lab.harness import base_directory, server
from lab.harness.comfyui import ROOT
from lab.tools import release

FILLED = {"Repository": "https://example.org/pack", "PublisherId": "someone", "Icon": "https://example.org/icon.png"}


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "reversion_core").mkdir()
    for name in ("pyproject.toml", "CHANGELOG.md", release.VERSION):
        shutil.copy(ROOT / name, tmp_path / name)
    text = (tmp_path / "pyproject.toml").read_text()
    for name, value in FILLED.items():
        text = re.sub(f'^{name} = ".*"$', f'{name} = "{value}"', text, flags=re.MULTILINE)
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
    version = re.search(r'version = "(.*)"', path.read_text())[1]
    for name in ("pyproject.toml", release.VERSION):
        (checkout / name).write_text((checkout / name).read_text().replace(version, "9.9.9"))
    (line,) = release.missing(checkout)
    assert "CHANGELOG.md" in line


def test_two_versions_are_named(checkout):
    (checkout / release.VERSION).write_text('VERSION = "9.9.9"\n')
    (line,) = release.missing(checkout)
    assert release.VERSION in line


def test_everything_that_is_shipped_is_in_git():
    """The registry takes tracked files alone, and tests run with what lies in the folder."""
    names = [name for name in server.shipped() if (ROOT / name).is_dir()]
    listed = ["git", "ls-files", "--others", "--exclude-standard", "--", *names]
    found = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode or found.stdout == ""  # where this is no checkout, nothing is known


def test_every_relative_link_in_a_shipped_text_leads_to_a_shipped_file():
    names = server.shipped()
    texts = [
        path for name in names for path in ([ROOT / name] if name.endswith(".md") else (ROOT / name).rglob("*.md"))
    ]
    links = [
        (path, link)
        for path in texts
        for link in re.findall(r"\]\(([^)\s#]+)", path.read_text(encoding="utf-8"))
        if "://" not in link
    ]
    assert {ROOT / "README.md", ROOT / "docs" / "measured.md"} <= {path for path, _ in links}
    pages = ROOT / "web" / "docs"  # from here the page resolves the links of every help page, also of one in a folder
    for path, link in links:
        target = ((pages if path.is_relative_to(pages) else path.parent) / link).resolve()
        assert target.exists() and target.relative_to(ROOT).parts[0] in names, f"{path.relative_to(ROOT)}: {link}"


def test_the_harness_links_what_the_registry_ships_and_nothing_that_leads_back(tmp_path):
    names = server.shipped()
    assert {
        "__init__.py",
        "nodes",
        "reversion_core",
        "web",
        "locales",
        "workflows",
        "README.md",
        "README.zh.md",
    } <= set(names)
    assert not {"lab", "tests", "build", ".venv", ".host", ".git"} & set(names)
    pack_folder = tmp_path / "base" / "custom_nodes" / server.PACK
    pack_folder.mkdir(parents=True)
    (pack_folder / "lab").symlink_to(ROOT / "lab")  # as an earlier version may have left it
    server.prepare(tmp_path / "base")
    assert {path.name for path in pack_folder.iterdir()} == set(names)


def test_a_base_directory_lies_outside_the_checkout_and_belongs_to_it_alone(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="lies in the checkout"):
        server.prepare(ROOT / "build" / "host")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    other = base_directory.folder(tmp_path / "another-checkout")
    for folder in (other, base_directory.of("demo")):
        assert not folder.is_relative_to(ROOT)
        folder.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "lab.harness.base_directory"], cwd=ROOT, check=True)
    assert other.exists() and not base_directory.folder().exists()
