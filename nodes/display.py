"""Text on a node."""

from comfy_api.latest import ui


def show_text(node, text):
    """Show text on a node under way, whose schema asks for the hidden unique_id; returns the ui output for the history.

    The page itself shows the text outputs of its own preview nodes only.
    """
    if node.hidden.unique_id is not None:
        from server import PromptServer  # there is one where a graph runs

        PromptServer.instance.send_progress_text(text, node.hidden.unique_id)
    return ui.PreviewText(text)
