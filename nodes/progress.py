"""What a node shows while it runs, and the cancel button: the only place in nodes/ that asks the host's server."""

import html
import time

import comfy.model_management
import comfy.utils
from comfy_api.latest import ui
from comfy_execution.utils import get_executing_context
from PIL import Image

from ..reversion_core.report import charts, time_left
from ..reversion_core.training.loop import TITLES

SECONDS_BETWEEN_CHARTS = 2.0
CARD_SIDE = 1200  # pixels; the host shrinks a larger card
SECONDS_BETWEEN_TEXTS = 2.0
_hinted = {}  # id of a node that shows a hint -> the queued prompt in which it was given
_grids = {}  # id of a node that goes through a list, an entry a Run -> the list, the last entry's number, when it came


def show_text(node, text):
    """Show text on a node under way, whose schema asks for the hidden unique_id; returns the ui output for the history.

    The page itself shows the text outputs of its own preview nodes only.
    """
    if node.hidden is not None and node.hidden.unique_id is not None:
        _send_text(text, node.hidden.unique_id)
    return ui.PreviewText(text)


def as_sentences(texts):
    """Texts, a line each, that also read well where the page joins their lines: with capital letters and full stops."""
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    # A name with a dot or a digit, such as a file's, stays as it is.
    lines = [line[0].upper() + line[1:] if line.split()[0].rstrip(",;").isalpha() else line for line in lines]
    return "\n".join(line if line.endswith((".", "!", "?", ":")) else f"{line}." for line in lines)


def hint_on_running_node(text):
    """Show a hint on the node that runs now, whoever made it.

    "": there is none; one of an earlier run, which the page keeps showing, is replaced.
    """
    context = get_executing_context()
    if context is None:
        return
    if text:
        _hinted[context.node_id] = context.prompt_id
        _send_text(text, context.node_id)
    elif _hinted.get(context.node_id, context.prompt_id) != context.prompt_id:
        del _hinted[context.node_id]
        _send_text("This prompt is drawn with its relation.", context.node_id)


def _send_text(text, node_id):
    """Put a text on a node of the page, which takes it for HTML."""
    from server import PromptServer  # there is one where a graph runs

    PromptServer.instance.send_progress_text(html.escape(text, quote=False), node_id)


class TrainingProgress:
    """Progress on the node: the bar, a card with the time left and the curves, what happened, and the cancel button."""

    def __init__(self, node, steps):
        self.node, self.steps, self.bar = node, steps, comfy.utils.ProgressBar(steps)
        self.began, self.first, self.shown = time.monotonic(), None, 0.0
        self.history, self.sample, self.message, self.done = [], None, "", 0

    def __call__(self, learner, previews):
        # The bar skips updates that come fast, and with them the look at the cancel button.
        comfy.model_management.throw_exception_if_processing_interrupted()
        if learner is None:
            self.bar.update_absolute(0, self.steps)
            return
        now = time.monotonic()
        if self.first is None:  # the time of the first update is not known: much of it went before
            self.first, self.began = learner.step, now
        self.history, self.sample = learner.history, previews[-1] if previews else None
        self.done, picture = learner.step, None
        if now - self.shown > SECONDS_BETWEEN_CHARTS or learner.step == self.steps:
            self.shown = now
            picture = self._card(f"Step {learner.step} of {self.steps}{self._time_left(now)}")
        self.bar.update_absolute(learner.step, self.steps, picture)

    def _time_left(self, now):
        if self.done == self.first:
            return ""
        left = (now - self.began) / (self.done - self.first) * (self.steps - self.done)
        minutes, seconds = divmod(round(left), 60)
        return f", {minutes}:{seconds:02} left"

    def tell(self, text):
        """Say what happened, on the card and as the node's text."""
        self.message = as_sentences([text])
        show_text(self.node, self.message)
        headline = f"Step {self.done} of {self.steps}" if self.done else f"{self.steps} steps"
        self.bar.update_absolute(self.done, self.steps, self._card(headline))

    def finish(self, result):
        """The last card of a training, also where it came from disk; returns the ui output for the history."""
        self.history, self.sample = result.history, result.previews[-1] if result.previews else None
        self.message = as_sentences(result.messages)
        headline = f"Learned in {len(self.history)} steps"
        self.bar.update_absolute(self.steps, self.steps, self._card(headline))
        return show_text(self.node, f"{headline}.\n{self.message}".strip())

    def _card(self, headline):
        return "JPEG", charts.progress_card(headline, self.history, TITLES, self.sample, self.message), CARD_SIDE


class PictureProgress:
    """Progress over pictures that are scored: the bar, the time left, the latest of them, and the cancel button.

    total: all of them; done: those that were scored before.
    """

    def __init__(self, node, total, done=0):
        self.node, self.total, self.first = node, total, done
        self.bar, self.began, self.said = comfy.utils.ProgressBar(total), time.monotonic(), time.monotonic()
        self.bar.update_absolute(done, total)

    def __call__(self, done, picture):
        """done: how many are scored by now; picture: the latest of them, uint8 [h, w, 3]."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        now = time.monotonic()
        self.bar.update_absolute(done, self.total, ("JPEG", Image.fromarray(picture), CARD_SIDE))
        if now - self.said > SECONDS_BETWEEN_TEXTS and done < self.total:
            self.said = now
            left = (now - self.began) / (done - self.first) * (self.total - done)
            show_text(self.node, f"{done} of {self.total} pictures are scored; {time_left.about(left)}.")


def show_entry(node, entries, number):
    """Show on a node under way which entry of a list this Run is for: as its bar. Returns the time left in words.

    "": it is not known, because the Run before was not for the entry before. entries: compared with those of that Run.
    """
    comfy.utils.ProgressBar(len(entries)).update_absolute(number, len(entries))
    if node.hidden is None or node.hidden.unique_id is None:
        return ""
    now, before = time.monotonic(), _grids.get(node.hidden.unique_id)
    _grids[node.hidden.unique_id] = entries, number, now
    if before is None or before[:2] != (entries, number - 1):
        return ""
    return time_left.about((now - before[2]) * (len(entries) - number))
