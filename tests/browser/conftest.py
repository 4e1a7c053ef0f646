"""The real frontend in a headless Chromium, on a real server. FRONTEND_ROOT takes another frontend than the host's."""

import os
import shutil

import pytest
import torch
from playwright.sync_api import sync_playwright

from lab.harness import server, tiny_clip
from lab.tools import beyond, workflows
from reversion_core.store.relation import Relation, save

RENDERINGS = {"classic": False, "vue": True}
READY = "!!(window.app?.extensionManager && window.LiteGraph?.registered_node_types.ReVersionTrain)"


@pytest.fixture(scope="package")
def host_server(tmp_path_factory):
    root = os.environ.get("FRONTEND_ROOT")
    options = ["--cpu", *(["--front-end-root", root] if root else [])]
    folder = tmp_path_factory.mktemp("host")
    tiny_clip.write(folder / "models" / "clip_vision" / beyond.CLIP_FOLDER)
    with server.Server(folder, *options) as running:
        workflows.write_inputs(running.folder / "input")
        relation = Relation({"clip_l": torch.full((1, 768), 0.01)})
        for name in (workflows.NAME, workflows.OTHER):
            save(relation, running.folder / "models" / "embeddings" / f"{name}.safetensors")
        yield running


@pytest.fixture(scope="package")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for found in map(shutil.which, names) if found), None)
    assert path, "there is no chromium: `make browser` installs it"
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])


@pytest.fixture(scope="package")
def open_page(host_server, browser):
    """Opens the page anew, with the given options of the browser, and waits until the nodes are there."""

    def open_page(**options):
        page = browser.new_page(viewport={"width": 1920, "height": 1080}, **options)
        page.goto(f"http://127.0.0.1:{host_server.port}/")
        page.wait_for_function(READY, timeout=120_000)
        return page

    return open_page


@pytest.fixture(scope="module", params=RENDERINGS)
def page(host_server, open_page, request):
    """The page, opened anew for each way to render nodes; `page.rendering` says which."""
    host_server.post(
        "settings",
        {
            "Comfy.TutorialCompleted": True,
            "Comfy.Workflow.ShowMissingModelsWarning": False,
            "Comfy.VueNodes.Enabled": RENDERINGS[request.param],
            "LiteGraph.Canvas.MinFontSizeForLOD": 0,
        },
    )
    page = open_page()
    page.rendering = request.param
    yield page
    page.close()
