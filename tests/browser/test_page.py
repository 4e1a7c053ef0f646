"""Every shipped workflow in the real page: opens whole, keeps what it says, runs to success on the miniature."""

import itertools
import json
import re

import numpy as np
import pytest
from PIL import Image

from lab.harness import comfyui, server
from lab.tools import workflows

SAVED = sorted((comfyui.ROOT / "tests" / "saved").glob("*/*.json"))  # workflows as earlier versions shipped them
SCREENSHOTS = comfyui.ROOT / "build" / "browser"
# For the time it takes; what is run is otherwise the workflow as it opened.
QUICK = {"width": 64, "height": 64, "steps": 2, "batch_size": 1, "accumulation": 1, "previews": 0, "overwrite": True}
QUICK["size"] = 64  # of the exemplars, where a template shows ComfyUI's large example picture

LOAD = "workflow => app.loadGraphData(workflow)"
ALERTS = ".p-toast-message"
SET_WIDGETS = """values => {
    for (const node of app.graph.nodes)
        for (const widget of node.widgets ?? [])
            if (widget.name in values) widget.value = values[widget.name]
}"""
WIDGETS = """() => Object.fromEntries(app.graph.nodes.map(
    node => [node.id, Object.fromEntries((node.widgets ?? []).map(widget => [widget.name, widget.value]))]))"""
MISSING = """() => app.graph.nodes
    .filter(node => !LiteGraph.registered_node_types[node.type] || node.has_errors).map(node => node.type)"""
DEPRECATED = """() => app.graph.nodes
    .filter(node => LiteGraph.registered_node_types[node.type].nodeData?.deprecated).map(node => node.type)"""
TOO_SMALL = "() => app.graph.nodes.filter(node => node.size[1] < node.computeSize()[1]).map(node => node.type)"
CANVAS_BOXES = """() => app.graph.nodes.map(node => [
    node.pos[0], node.pos[1] - LiteGraph.NODE_TITLE_HEIGHT, node.pos[0] + node.size[0], node.pos[1] + node.size[1]])"""
BOXES = """() => [...document.querySelectorAll('[data-node-id]')].map(element => {
    const box = element.getBoundingClientRect()
    return [box.left, box.top, box.right, box.bottom]
})"""
# The lowest contrast of the letters in each note (WCAG 2.1), with the colours that the page draws them in.
CONTRASTS = """() => {
    const channels = text => text.match(/[\\d.]+/g).map(Number)
    const luminance = colour => channels(colour).slice(0, 3).map(c => c / 255)
        .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0)
    const behind = element => {
        for (; element; element = element.parentElement) {
            const colour = getComputedStyle(element).backgroundColor
            if ((channels(colour)[3] ?? 1) > 0.5) return colour
        }
    }
    const contrast = element => {
        const [a, b] = [luminance(getComputedStyle(element).color), luminance(behind(element) ?? '#000')]
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
    }
    const notes = [...document.querySelectorAll('.comfy-markdown, .comfy-markdown-content')]
    return notes.filter(note => note.textContent.trim()).map(note => Math.min(...[note, ...note.querySelectorAll('*')]
        .filter(element => [...element.childNodes].some(child => child.nodeType === 3 && child.data.trim()))
        .map(contrast)))
}"""
CARD_WIDTH = "name => document.querySelector(`[role=dialog] img[alt='${name}']`)?.naturalWidth >= 512"
TEXTS = "type => app.graph.nodes.find(node => node.type === type).widgets.map(widget => String(widget.value)).join()"
TRAIN = "app.graph.nodes.find(node => node.type === 'ReVersionTrain')"
HELP_PICTURE = "() => document.querySelector('.node-help-content img')?.naturalWidth > 0"
SEARCH = re.compile("Search Nodes|Add a node")
SELECT_TRAIN = f"() => app.canvas.selectNode({TRAIN})"
SHOWN_ON_TRAIN = f"() => {TRAIN}.widgets.filter(widget => {TRAIN}.isWidgetVisible(widget)).length"
OLD_VUE_NODES = "() => !Object.keys(LiteGraph.registered_node_types.ReVersionTrain.nodeData).includes('search_aliases')"


def opened(page, name):
    """Open a workflow from the pack's templates; returns it as the file has it and as the page saves it."""
    saved = page.evaluate(f"fetch('/api/workflow_templates/{server.PACK}/{name}.json').then(r => r.json())")
    page.evaluate(LOAD, saved)
    return saved, json.loads(page.evaluate("() => JSON.stringify(app.graph.serialize())"))


def kept(workflow):
    """What a round trip through the page must not change."""
    nodes = [
        (n["id"], n["type"], n["order"], n.get("title"), n.get("widgets_values") or [], n["properties"])
        for n in workflow["nodes"]
    ]
    return nodes, sorted(map(tuple, workflow["links"])), [group["title"] for group in workflow["groups"]]


def run(page, host_server, widgets):
    """Set widgets of the open workflow and run it to success; returns its entry in the host's history."""
    page.evaluate(SET_WIDGETS, widgets)
    prompt, client = page.evaluate("async () => [(await app.graphToPrompt()).output, app.api.clientId]")
    assert all(node["class_type"] for node in prompt.values())
    entry = host_server.wait(host_server.queue(prompt, client))
    assert entry["status"]["status_str"] == "success", server.failure(entry)
    return entry


def assert_apart(page):
    """No node lies on another, with what it shows."""
    boxes = page.evaluate(BOXES if page.rendering == "vue" else CANVAS_BOXES)
    for a, b in itertools.combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def pictures(host_server, entry):
    for output in entry["outputs"].values():
        for image in output.get("images", []):
            yield np.asarray(Image.open(host_server.picture(image)).convert("RGB"))


@pytest.mark.parametrize("name", workflows.WORKFLOWS)
def test_a_workflow_opens_whole_and_runs(page, host_server, name):
    saved, again = opened(page, name)
    assert kept(again) == kept(saved)
    drawn = len(saved["nodes"]) if page.rendering == "vue" else 0
    page.wait_for_function(f"document.querySelectorAll('[data-node-id]').length === {drawn}")
    assert_apart(page)
    assert page.evaluate("() => app.canvas.ds.scale") >= 0.6
    assert page.evaluate(DEPRECATED) == []
    page.wait_for_function(f"({CONTRASTS})().length === {len(saved['groups'])}")
    assert min(page.evaluate(CONTRASTS)) > 4.5

    (loader,) = (node for node in again["nodes"] if node["type"] == "CheckpointLoaderSimple")
    loader["widgets_values"] = [server.CHECKPOINT]
    page.evaluate(LOAD, again)
    assert page.evaluate(MISSING) == [] and page.evaluate(TOO_SMALL) == []
    entry = run(page, host_server, QUICK)
    shown = list(pictures(host_server, entry))
    assert shown and all(pixels.std() > 0 for pixels in shown)
    page.wait_for_timeout(500)
    assert_apart(page)
    assert page.locator(ALERTS).count() == 0
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}-{page.rendering}.png")


@pytest.mark.parametrize("path", SAVED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_workflow_of_an_earlier_version_opens_with_its_values_and_runs(page, host_server, path):
    saved = json.loads(path.read_text(encoding="utf-8"))
    (loader,) = (node for node in saved["nodes"] if node["type"] == "CheckpointLoaderSimple")
    loader["widgets_values"] = [server.CHECKPOINT]
    page.evaluate(LOAD, saved)
    assert page.evaluate(MISSING) == []
    widgets = page.evaluate(WIDGETS)
    for node in saved["nodes"]:
        # Widgets that a later version added stand behind those that were saved.
        if node["type"].startswith("ReVersion") and node.get("widgets_values"):
            now = list(widgets[str(node["id"])].values())
            assert now[: len(node["widgets_values"])] == node["widgets_values"], node["type"]
    shown = list(pictures(host_server, run(page, host_server, QUICK)))
    assert shown and all(pixels.std() > 0 for pixels in shown)


def test_texts_show_on_their_nodes(page, host_server):
    opened(page, "1_learn_a_relation")
    name = f"text-{page.rendering}"
    run(page, host_server, {**QUICK, "name": name, "ckpt_name": server.CHECKPOINT, "words": 3})
    page.wait_for_function(f"({TEXTS})('ReVersionSaveRelation').includes('embedding:{name}')")
    page.wait_for_function(f"({TEXTS})('ReVersionInspect').includes('Nearest words: ')")


def wait_for_text(page, text):
    page.wait_for_function("text => document.body.innerText.includes(text)", arg=text, timeout=120_000)


def test_a_second_training_is_saved_under_the_next_free_name(page, host_server):
    opened(page, "3_learn_and_use")
    name = f"twice-{page.rendering}"
    for seed, said in ((1, f"Saved as embedding:{name}."), (2, f"Saved as embedding:{name}-2; {name} holds another")):
        values = {**QUICK, "overwrite": False, "ckpt_name": server.CHECKPOINT, "name": name, "training_seed": seed}
        assert list(pictures(host_server, run(page, host_server, values)))
        wait_for_text(page, said)
    page.wait_for_timeout(500)
    assert_apart(page)


def test_a_hint_on_a_prompt_shows_and_goes(page, host_server):
    if page.rendering == "vue" and page.evaluate(OLD_VUE_NODES):
        pytest.skip("nodes of this page show no text below a text box")
    opened(page, "2_use_a_relation")
    prompt = "node => node.title === 'Prompt with <R>'"
    write = f"text => app.graph.nodes.find({prompt}).widgets[0].value = text"
    values = {**QUICK, "ckpt_name": server.CHECKPOINT}
    page.evaluate(write, "cat <r> stone")
    run(page, host_server, values)
    wait_for_text(page, "<r> is read as letters: this CLIP knows <R>; write <R>.")
    page.wait_for_timeout(500)
    assert_apart(page)
    page.evaluate(write, "cat <R> stone")
    run(page, host_server, values)
    wait_for_text(page, "This prompt is drawn with its relation.")
    assert "is read as letters" not in page.evaluate("() => document.body.innerText")


def test_what_happened_to_a_training_is_on_the_page(page, host_server):
    opened(page, "1_learn_a_relation")
    values = {**QUICK, "ckpt_name": server.CHECKPOINT, "name": "story", "training_seed": 7, "steps": 400, "autosave": 1}
    page.evaluate(SET_WIDGETS, values | {"training_seed": 7 + (page.rendering == "vue")})
    for before_it_stops in ("", "Resumed after step"):
        page.evaluate("() => app.queuePrompt(0)")
        wait_for_text(page, before_it_stops)
        page.wait_for_function(f"() => {TRAIN}.progress > 0.01", timeout=120_000)
        host_server.post("interrupt")
        wait_for_text(page, "Stopped; the relation of step")


def test_texts_come_back_where_nothing_ran_again(page, host_server):
    name = f"again-{page.rendering}"
    values = {**QUICK, "ckpt_name": server.CHECKPOINT, "training_seed": 9, "name": name}
    for _ in range(2):
        opened(page, "1_learn_a_relation")
        assert f"Saved as embedding:{name}" not in page.evaluate("() => document.body.innerText")
        run(page, host_server, values)
        wait_for_text(page, f"Saved as embedding:{name}")


PICK = "app.graph.nodes.flatMap(node => node.widgets ?? []).find(widget => widget.name === 'pick').value"
PROMOTE_PICK = """() => {
    const prompts = node => node.type === 'ReVersionPrompts'
    const { subgraph } = app.graph.convertToSubgraph(new Set([app.graph.nodes.find(prompts)]))
    const inner = subgraph.nodes.find(prompts)
    subgraph.addInput('pick', 'INT').connect(inner.inputs.find(input => input.widget?.name === 'pick'), inner)
}"""


@pytest.mark.parametrize("in_subgraph", [False, True])
def test_each_run_draws_the_next_prompt_of_a_grid(page, host_server, in_subgraph):
    opened(page, "4_prompt_grid")
    if in_subgraph:
        page.evaluate(PROMOTE_PICK)
    page.evaluate(SET_WIDGETS, {**QUICK, "ckpt_name": server.CHECKPOINT, "pick": 2})
    before = set(host_server.get("history"))
    page.evaluate("() => app.queuePrompt(0, 2)")
    wanted = {"hamburger_R_stone": "hamburger <R> stone", "hamburger_R_canvas": "hamburger <R> canvas"}
    said = f"Prompt 4 of 4: {wanted['hamburger_R_canvas']}"
    if not in_subgraph:  # of which the page shows the outside
        page.wait_for_function("said => document.body.innerText.includes(said)", arg=said, timeout=120_000)
    while any(host_server.get("queue").values()):
        page.wait_for_timeout(100)
    assert page.evaluate(f"() => {PICK}") == 4
    drawn = {}
    for number, entry in host_server.get("history").items():
        if number not in before:
            (image,) = (image for output in entry["outputs"].values() for image in output.get("images", []))
            with Image.open(host_server.picture(image)) as picture:
                drawn |= json.loads(picture.text["reversion_prompts"])
    assert drawn == wanted


def test_a_grid_that_is_cancelled_goes_on_with_the_first_prompt_that_was_not_drawn(page, host_server):
    opened(page, "4_prompt_grid")
    page.evaluate(SET_WIDGETS, {**QUICK, "ckpt_name": server.CHECKPOINT, "pick": 0})
    before = set(host_server.get("history"))
    page.evaluate("() => app.queuePrompt(0, 4)")
    page.wait_for_function("() => /Prompt [1-3] of 4/.test(document.body.innerText)", timeout=120_000)
    host_server.post("queue", {"clear": True})
    host_server.post("interrupt")
    page.wait_for_function(f"() => {PICK} < 4", timeout=120_000)
    ended = [entry for number, entry in host_server.get("history").items() if number not in before]
    assert page.evaluate(f"() => {PICK}") == sum(e["status"]["status_str"] == "success" for e in ended)


def test_a_prompt_that_was_taken_out_of_the_queue_is_the_next(page, host_server):
    opened(page, "4_prompt_grid")
    page.evaluate(SET_WIDGETS, {**QUICK, "ckpt_name": server.CHECKPOINT, "pick": 0})
    page.evaluate("() => app.queuePrompt(0, 4)")
    page.wait_for_function(f"() => {PICK} === 4")
    last = max(host_server.get("queue")["queue_pending"])
    host_server.post("queue", {"delete": [last[1]]})
    page.wait_for_function(f"() => {PICK} === 3", timeout=120_000)
    assert not any(host_server.get("queue").values())


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("textual inversion", "Train|Load Relation"),
        ("embedding", "Train|Save Relation|Load Relation"),
        ("embedding training", "Train"),
        ("train", "Train"),
        ("prompt grid", "Prompts"),
    ],
)
def test_the_search_finds_the_nodes(page, words, name):
    page.evaluate("() => app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
    page.get_by_placeholder(SEARCH).first.fill(words)
    page.get_by_role("option").filter(has_text=re.compile(f"ReVersion ({name})")).first.wait_for()
    page.keyboard.press("Escape")


def test_rarely_used_inputs_show_on_demand(page):
    if page.rendering == "vue" and page.evaluate(OLD_VUE_NODES):
        pytest.skip("nodes of this page show every input")
    opened(page, "1_learn_a_relation")
    few = page.evaluate(SHOWN_ON_TRAIN)
    page.evaluate(f"() => ({TRAIN}).toggleAdvanced()")
    assert few == 6 and page.evaluate(SHOWN_ON_TRAIN) == 18


def test_the_templates_show_up(page):
    page.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    dialog = page.get_by_role("dialog")
    dialog.get_by_text(server.PACK, exact=True).first.click()
    for name in workflows.WORKFLOWS:  # the page loads the cards that are in sight
        card = dialog.get_by_text(name, exact=True).first
        card.wait_for()
        card.evaluate("title => title.scrollIntoView({block: 'end'})")  # and with it the picture above
        page.wait_for_function(CARD_WIDTH, arg=name)
    page.screenshot(path=SCREENSHOTS / f"templates-{page.rendering}.png")
    dialog.get_by_text("2_use_a_relation", exact=True).first.click()
    dialog.wait_for(state="hidden")
    page.wait_for_function("!!app.graph.nodes.find(node => node.type === 'ReVersionLoadRelation')")


def test_a_help_page_shows_up(page):
    opened(page, "1_learn_a_relation")
    page.evaluate(SELECT_TRAIN)
    page.get_by_test_id("info-button").first.click()
    page.locator(".node-help-content").get_by_text("Learns the relation that the exemplars share").wait_for()
    page.wait_for_function(HELP_PICTURE)
    page.screenshot(path=SCREENSHOTS / f"help-{page.rendering}.png")
