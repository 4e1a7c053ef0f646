"""What a node shows while it runs, and the cancel button: the only place in nodes/ that asks the host's server."""

import time

import comfy.model_management
import comfy.utils
from comfy_api.latest import ui

from ..reversion_core.report import charts

SECONDS_BETWEEN_CHARTS = 2.0
CHART_SIDE = 640


def show_text(node, text):
    """Show text on a node under way, whose schema asks for the hidden unique_id; returns the ui output for the history.

    The page itself shows the text outputs of its own preview nodes only.
    """
    if node.hidden is not None and node.hidden.unique_id is not None:
        from server import PromptServer  # there is one where a graph runs

        PromptServer.instance.send_progress_text(text, node.hidden.unique_id)
    return ui.PreviewText(text)


class TrainingProgress:
    """Progress on the node: the bar, the curves so far with the latest preview, and the cancel button."""

    def __init__(self, steps):
        self.steps, self.bar = steps, comfy.utils.ProgressBar(steps)
        self.began, self.first, self.shown = time.monotonic(), None, 0.0

    def __call__(self, learner, previews):
        # The bar skips updates that come fast, and with them the look at the cancel button.
        comfy.model_management.throw_exception_if_processing_interrupted()
        if learner is None:
            self.bar.update_absolute(0, self.steps)
            return
        now = time.monotonic()
        if self.first is None:
            self.first, self.began = learner.step - 1, now
        picture = None
        if now - self.shown > SECONDS_BETWEEN_CHARTS or learner.step == self.steps:
            self.shown = now
            left = (now - self.began) / max(learner.step - self.first, 1) * (self.steps - learner.step)
            picture = charts.progress_card(learner.history, self.steps, left, previews[-1] if previews else None)
        self.bar.update_absolute(learner.step, self.steps, picture and ("JPEG", picture, CHART_SIDE))
