"""`make release-check`: what is still missing before a version of the pack can be published."""

import re
import sys
from pathlib import Path

from lab.harness import comfyui

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VERSION = "reversion_core/version.py"


def missing(folder: str | Path) -> list[str]:
    """One sentence for everything that the checkout in `folder` still lacks for a release."""
    folder = Path(folder)
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    urls, registry = project["project"].get("urls", {}), project["tool"]["comfy"]
    found = [
        f"pyproject.toml: {name} is empty"
        for name, value in (
            ("[project.urls] Repository", urls.get("Repository")),
            ("[tool.comfy] PublisherId", registry.get("PublisherId")),
            ("[tool.comfy] Icon", registry.get("Icon")),
        )
        if not value
    ]
    version = project["project"]["version"]
    if f'"{version}"' not in (folder / VERSION).read_text(encoding="utf-8"):
        found.append(f"{VERSION}: the version is not that of pyproject.toml, {version}")
    changes = (folder / "CHANGELOG.md").read_text(encoding="utf-8")
    if not re.search(rf"^## {re.escape(version)}\s*\n+- ", changes, re.MULTILINE):
        found.append(f"CHANGELOG.md: there is no entry for version {version}")
    return found


def main() -> None:
    found = missing(comfyui.ROOT)
    for line in found:
        print(line)  # noqa: T201
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
