"""The house: what may import what, read from the files themselves."""

import ast

import pytest

from lab.harness.comfyui import ROOT

# Each room of the core with those it may import from; errors, families and version stand beside them.
BELOW = {
    "method": {"errors"},
    "store": {"errors", "families", "method"},
    "prompts": {"store"},
    "exemplars": {"errors", "families", "method", "prompts", "store"},
    "report": {"errors", "method", "prompts", "store"},
    "host": {"errors", "families", "method", "prompts", "store"},
    "training": {"errors", "exemplars", "families", "host", "method", "report", "store", "version"},
}
HOST_PACKAGES = {"comfy", "comfy_execution", "folder_paths", "comfy_api", "server", "nodes", "execution"}
# Nodes are declared with comfy_api; the host's models, folders and server are each asked for in one place.
HOST_USERS = {
    "comfy": ("reversion_core/host/", "nodes/progress.py"),
    "server": ("nodes/progress.py",),
    "comfy_execution": ("nodes/sockets.py", "nodes/progress.py"),
    "folder_paths": ("nodes/places.py",),
    "comfy_api": ("nodes/",),
}


def imports(path):
    """(line, absolute module parts, whether it is written relative) of every import in a file of the repository."""
    package = list(path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split("."), False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = base + (node.module.split(".") if node.module else [])
            yield from ((node.lineno, [*module, alias.name], node.level > 0) for alias in node.names)


def files(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("room", BELOW)
def test_a_room_of_the_core_imports_only_those_below_it(room):
    for path in files(f"reversion_core/{room}"):
        for line, module, _ in imports(path):
            if module[0] == "reversion_core":
                assert module[1] in BELOW[room] | {room}, f"{path.relative_to(ROOT)}:{line}"


def test_the_pack_imports_neither_lab_nor_tests_and_lab_not_tests():
    for path in files("reversion_core", "nodes", "fleet", "lab"):
        forbidden = {"tests", "conftest"} | ({"lab"} if path.relative_to(ROOT).parts[0] != "lab" else set())
        for line, module, _ in imports(path):
            assert module[0] not in forbidden, f"{path.relative_to(ROOT)}:{line}"


def test_the_host_is_touched_in_its_own_places_only():
    for path in files("reversion_core", "nodes"):
        name = path.relative_to(ROOT).as_posix()
        for line, module, relative in imports(path):
            if module[0] in HOST_PACKAGES and not relative:
                assert name.startswith(HOST_USERS.get(module[0], ())), f"{name}:{line} imports {'.'.join(module)}"
