"""ReVersion Exemplars takes pictures one by one, and shows one free socket more than it has."""

import pytest

LAST = 10
NEW = """() => {
    app.graph.clear()
    const node = LiteGraph.createNode('ReVersionExemplars')
    app.graph.add(node)
    return node.id
}"""
CONNECT = """([id, name]) => {
    const node = app.graph.getNodeById(id), loader = LiteGraph.createNode('LoadImage')
    app.graph.add(loader)
    loader.connect(0, node, node.inputs.findIndex(input => input.name === name))
}"""
DISCONNECT = """([id, name]) => {
    const node = app.graph.getNodeById(id)
    node.disconnectInput(node.inputs.findIndex(input => input.name === name))
}"""
PROMPT = "async () => (await app.graphToPrompt()).output"
SOCKETS = """id => app.graph.getNodeById(id).inputs.filter(input => input.type === 'IMAGE')
    .map(input => input.name + (input.link == null ? '' : '!')).join(' ')"""


@pytest.fixture
def exemplars(page):
    """The id of a new node, and a function that waits for its picture sockets; ! stands behind those in use."""
    node = page.evaluate(NEW)

    def shows(expected):
        page.wait_for_function(f"expected => ({SOCKETS})({node}) === expected", arg=expected, timeout=5000)

    shows("images picture_2")
    return node, shows


def test_a_free_socket_follows_the_last_one_in_use(page, exemplars):
    node, shows = exemplars
    page.evaluate(CONNECT, [node, "images"])
    shows("images! picture_2")
    page.evaluate(CONNECT, [node, "picture_2"])
    shows("images! picture_2! picture_3")
    page.evaluate(CONNECT, [node, "picture_3"])
    shows("images! picture_2! picture_3! picture_4")
    page.evaluate(DISCONNECT, [node, "picture_2"])
    shows("images! picture_2 picture_3! picture_4")
    page.evaluate(DISCONNECT, [node, "picture_3"])
    shows("images! picture_2")
    for number in range(2, LAST + 1):
        page.evaluate(CONNECT, [node, f"picture_{number}"])
        page.wait_for_timeout(50)
    shows("images! " + " ".join(f"picture_{number}!" for number in range(2, LAST + 1)))


def test_a_saved_workflow_keeps_its_links(page, exemplars):
    node, shows = exemplars
    for name in ("images", "picture_2", "picture_3"):
        page.evaluate(CONNECT, [node, name])
        page.wait_for_timeout(50)
    before = page.evaluate(PROMPT)
    page.evaluate("() => app.loadGraphData(app.graph.serialize())")
    shows("images! picture_2! picture_3! picture_4")
    assert page.evaluate(PROMPT) == before
    inputs = before[str(node)]["inputs"].keys()
    assert {"images", "picture_2", "picture_3"} <= inputs and "picture_4" not in inputs
