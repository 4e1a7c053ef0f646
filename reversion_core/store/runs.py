"""What a training run leaves on disk, and how a later one finds it.

A run is known by a key of all its inputs but the number of steps. Its relation lies in the embeddings folder, so that
it can be used at once; the log and the state to go on from lie elsewhere, so that the embedding stays clean.
"""

import csv
import io
import json
import logging
import re
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes

from ..errors import ReVersionError
from . import relation
from .files import write_whole

RECORD = ("loss", "denoise", "steer", "norm", "similarity")  # the numbers that are kept of an update


class Autosave:
    def __init__(self, folder, log_folder, parts, key, steps):
        """parts: name of an input -> text that changes with it; key: their hash."""
        self.parts, self.key, self.steps = parts, key[:16], steps
        self.folder, self.log_folder = Path(folder), Path(log_folder)
        name = f"run-{self.key}-{steps}"
        self.relation = self.folder / f"{name}.safetensors"
        self.log = self.log_folder / f"{name}.csv"
        self.state = self.log_folder / f"{name}.state.safetensors"

    def check_writable(self, node):
        """Raises a ReVersionError where nothing could be kept, before any work."""
        for folder in (self.folder, self.log_folder):
            probe = folder / f"{self.relation.name}.probe"
            try:
                write_whole(probe, b" " * 65536)
                probe.unlink()
            except OSError as error:
                raise ReVersionError(
                    node,
                    "autosave",
                    f"nothing can be written to the folder '{folder}' ({error.strerror})",
                    "free space on the disk or allow writing there",
                ) from error

    def finished(self):
        """(Relation, history) of an equal run that went to its end, or None."""
        if not (self.relation.exists() and self.log.exists()):
            return None
        try:
            learned = relation.load(self.relation)
            with self.log.open(newline="", encoding="utf-8") as file:
                history = [{name: float(row[name]) for name in RECORD} for row in csv.DictReader(file)]
        except (ReVersionError, OSError, KeyError, TypeError, ValueError) as error:
            logging.warning("ReVersion: the finished run %s cannot be read (%s); it is learned anew", self.log, error)
            return None
        done = json.loads(learned.metadata.get("reversion.steps_done", "0"))
        return (learned, history) if done == self.steps == len(history) else None

    def unfinished(self):
        """The state to go on from: of this run, or of an equal one with fewer steps. None where there is none."""
        if self.state.exists() and (own := _read(self.state)):
            return own
        others = set(self.log_folder.glob(f"run-{self.key}-*.state.safetensors")) - {self.state}
        found = [tensors for tensors in map(_read, others) if tensors and len(tensors["history"]) < self.steps]
        return max(found, key=lambda tensors: len(tensors["history"]), default=None)

    def keep(self, learner, learned):
        """Save relation, state and log. A full disk is reported and does not stop the training."""
        try:
            relation.save(learned, self.relation)
            write_whole(self.state, safetensors_bytes(learner.state(), {"parts": json.dumps(self.parts)}))
            write_whole(self.log, _csv(learner.history))
        except OSError as error:
            logging.warning("ReVersion: could not save the relation so far (%s); the training goes on", error)

    def keep_preview(self, step, prompt, picture):
        """Save a preview, uint8 [h, w, 3], beside the log. A full disk is reported and does not stop the training."""
        data = io.BytesIO()
        Image.fromarray(picture).save(data, "PNG")
        try:
            name = f"run-{self.key}-{self.steps}-{_short(prompt)}-{step:06}.png"
            write_whole(self.log_folder / name, data.getvalue())
        except OSError as error:
            logging.warning("ReVersion: could not save a preview (%s); the training goes on", error)

    def previews(self, steps, prompt):
        """The kept previews of a prompt after these updates, of this run or one it may have gone on from, in order."""
        kept = {}
        pattern = re.compile(rf"run-{self.key}-(\d+)-{_short(prompt)}-(\d+)\.png")
        for match in filter(None, (pattern.fullmatch(path.name) for path in self.log_folder.glob("run-*.png"))):
            total, step = map(int, match.groups())
            if kept.get(step, (0,))[0] <= total <= self.steps:
                kept[step] = total, self.log_folder / match[0]
        pictures = (_picture(kept[step][1]) for step in steps if step in kept)
        return [picture for picture in pictures if picture is not None]

    def changes(self):
        """Why this run starts anew: the inputs that differ from those of the latest run, or "" where there is none."""
        states = sorted(self.log_folder.glob("run-*.state.safetensors"), key=lambda path: path.stat().st_mtime)
        before = _parts(states[-1]) if states else {}
        changed = [name for name, value in self.parts.items() if before.get(name, value) != value]
        return ", ".join(f"{n} ({before[n]} -> {self.parts[n]})" if len(before[n]) < 20 else n for n in changed)


def _read(path):
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        logging.warning("ReVersion: the saved state %s cannot be read (%s); it is left alone", path, error)
        return None


def _short(text):
    return sha256(text.encode()).hexdigest()[:8]


def _picture(path):
    try:
        return np.asarray(Image.open(path).convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        logging.warning("ReVersion: the preview %s cannot be read (%s); it is left out", path, error)
        return None


def _parts(path):
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return json.loads(file.metadata()["parts"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return {}


def _csv(history):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ("step", *RECORD))
    writer.writeheader()
    writer.writerows({"step": i + 1, **record} for i, record in enumerate(history))
    return text.getvalue().encode()
