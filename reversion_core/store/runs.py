"""What a training leaves on disk, a folder a run, and how a later one finds it.

A run is found by a key of all its inputs but the number of steps. Its folder, named by date, exemplars and key, holds
the relation, the record of its updates as a CSV, its previews, and the state from which an equal run goes on.
"""

import contextlib
import csv
import datetime
import io
import json
import logging
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes

from ..errors import MachineError, ReVersionError
from . import relation
from .files import SECONDS_PER_DAY, changed_at, check_writable, numbered, remove_old_partials, write_whole

KEPT_RUNS, KEPT_DAYS = 20, 7  # the newest, and all that an artist may still go on with
RELATION, STATE, LOG = "relation.safetensors", "state.safetensors", "log.csv"
DERIVED = ("caption tokens", "recipe")  # parts of a key that no artist sets
_LARGEST_STATE = 256 * 2**20  # bytes; a hundred thousand updates take 5 MB


@dataclass(frozen=True)
class RunKey:
    """What a run is known by.

    parts: readable name of an input -> text that changes with it; unidentified: inputs that have no such text. A run
    with such inputs gets a random key, so that it is kept and never found again.
    """

    parts: dict[str, str]
    unidentified: tuple[str, ...] = ()

    @cached_property
    def text(self) -> str:
        """16 hex digits, for the name of the run's folder."""
        known = secrets.token_hex(8) if self.unidentified else json.dumps(self.parts, sort_keys=True)
        return sha256(known.encode()).hexdigest()[:16]


class RunFolder:
    """The folder of one run."""

    def __init__(self, root: str | Path, key: RunKey, steps: int, label: str):
        """root: where the folders of all runs lie; label: readable part of the name."""
        self.root, self.key, self.steps, self.label = Path(root), key, steps, label
        found = [path for path, of_run in self._of_key() if of_run == steps]
        # Two programs may have begun the same run at the same moment: the one that went furthest, or the newest.
        self.path = max(found, key=lambda path: (_steps_done(path), path.name), default=self._new_path())

    def _new_path(self) -> Path:
        """A folder of this run that is not there yet."""
        date = datetime.datetime.now().strftime("%Y-%m-%d_%H%M%S")
        readable = re.sub(r"[^A-Za-z0-9_-]+", "-", self.label).strip("-")[:40]
        ending = f"_{readable}_{self.key.text}_{self.steps}"
        return next(path for path in numbered(self.root / date, ending) if not path.exists())

    def _of_key(self) -> list[tuple[Path, int]]:
        """(folder, steps) of the runs with this key, the oldest first; not of copies under other names."""
        named = re.compile(rf".*_{self.key.text}_(\d+)")
        found = ((path, named.fullmatch(path.name)) for path in sorted(self.root.glob(f"*_{self.key.text}_*")))
        return [(path, int(name[1])) for path, name in found if name and path.is_dir()]

    def check_writable(self, node: str) -> None:
        """Raises a ReVersionError where nothing could be kept, before any work."""
        try:
            with contextlib.suppress(OSError):
                if self.path.exists():
                    return check_writable(self.path)
            self.path = self._new_path()  # what is there may be another user's
            check_writable(self.root)
        except OSError as error:
            raise MachineError(
                node,
                "autosave",
                f"nothing can be written to the folder '{self.path}' ({error.strerror})",
                "free space on the disk or allow writing there",
            ) from error

    def finished(self) -> tuple[relation.Relation, list[dict[str, float]]] | None:
        """(Relation, history) of an equal run that went to its end, or None."""
        path, log = self.path / RELATION, self.path / LOG
        if not (path.exists() and log.exists()):
            return None
        try:
            learned = relation.load(path)
            with log.open(newline="", encoding="utf-8") as file:
                rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
            done = json.loads(learned.metadata.get("reversion.steps_done", "0"))
        except (ReVersionError, OSError, TypeError, ValueError) as error:
            logging.warning("ReVersion: the finished run %s cannot be read (%s); it is learned again", self.path, error)
            return None
        whole = [row.pop("step", None) for row in rows] == list(range(1, self.steps + 1))
        return (learned, rows) if whole and done == self.steps else None

    def lacks_verdict(self, learned: relation.Relation) -> bool:
        """Whether what `finished` gave was not yet compared with words, and the run's state is there to do so."""
        if "reversion.verdict" in learned.metadata:
            return False
        tensors = _read_state(self.path / STATE)
        return tensors is not None and len(tensors.get("history", ())) == self.steps

    def states(self) -> list[tuple[Path, dict[str, torch.Tensor], int]]:
        """(path, tensors, steps of that run) of readable states of equal runs, the furthest first, then its own."""
        found = []
        for folder, steps in self._of_key():
            tensors = _read_state(folder / STATE)
            if tensors and "history" in tensors:
                found.append((folder / STATE, tensors, steps))
        own = self.path / STATE
        return sorted(found, key=lambda state: (len(state[1]["history"]), state[0] == own), reverse=True)

    def keep(
        self,
        tensors: dict[str, torch.Tensor],
        history: list[dict[str, float]],
        learned: relation.Relation,
        made_with: dict,
    ) -> bool:
        """Save relation, state and log; whether that was possible. A full disk is reported and does not stop the
        training. Where more was learned in this folder, by another program or before, they go to a new one."""
        described = {"parts": json.dumps(self.key.parts), "made_with": json.dumps(made_with)}
        path = self._new_path() if _steps_done(self.path) > len(history) else self.path
        try:
            relation.save(learned, path / RELATION)
            write_whole(path / STATE, safetensors_bytes(tensors, described))
            write_whole(path / LOG, _csv(history))
        except OSError as error:
            logging.warning("ReVersion: could not save the relation so far (%s); the training goes on", error)
            return False
        self.path = path
        return True

    def keep_preview(self, step: int, prompt: str, picture: np.ndarray) -> None:
        """Save a preview, uint8 [h, w, 3]. A full disk is reported and does not stop the training."""
        data = io.BytesIO()
        Image.fromarray(picture).save(data, "PNG")
        try:
            write_whole(self.path / f"preview-{_short(prompt)}-{step:06}.png", data.getvalue())
        except OSError as error:
            logging.warning("ReVersion: could not save a preview (%s); the training goes on", error)

    def previews(self, steps: Iterable[int], prompt: str, source: Path | None = None) -> list[np.ndarray]:
        """The kept previews of a prompt after these updates, in order: of this run, else of the one it went on from."""
        pictures = []
        for step in steps:
            name = f"preview-{_short(prompt)}-{step:06}.png"
            paths = [folder / name for folder in (self.path, source) if folder and (folder / name).exists()]
            if paths and (picture := _picture(paths[0])) is not None:
                pictures.append(picture)
        return pictures

    def changes(self) -> str:
        """The inputs that differ from those of the latest run, in the artist's words; "" where there is none."""
        states = sorted(self.root.glob(f"*/{STATE}"), key=changed_at)
        if not (states and (before := _description(states[-1], "parts"))):
            return ""
        now, told = self.key.parts, []
        for name in before | now:
            then, today = before.get(name, "none"), now.get(name, "none")
            if then != today and name not in DERIVED:
                told.append(f"{name} ({then} -> {today})" if max(len(then), len(today)) <= 20 else name)
        return ", ".join(told)

    def prune(self) -> None:
        """Delete states, previews and damaged files of runs that are neither among the KEPT_RUNS newest nor younger
        than KEPT_DAYS, and stale temporary files. Relations and logs stay."""
        folders = [path for path in self.root.glob("*_*_*") if (path / STATE).exists() and path != self.path]
        folders.sort(key=lambda path: changed_at(path / STATE), reverse=True)
        for folder in folders[KEPT_RUNS - 1 :]:
            if time.time() - changed_at(folder / STATE) > KEPT_DAYS * SECONDS_PER_DAY:
                for path in (folder / STATE, *folder.glob("preview-*.png"), *folder.glob("*.damaged")):
                    with contextlib.suppress(OSError):  # it is another's, or open elsewhere
                        path.unlink()
                with contextlib.suppress(OSError):  # it holds what was learned
                    folder.rmdir()
        for folder in (self.root, *folders[: KEPT_RUNS - 1], self.path):
            remove_old_partials(folder)


def set_aside(state: Path) -> None:
    """Rename a state that cannot be used, so that it neither stands in the way nor is lost."""
    with contextlib.suppress(OSError):  # another program has it open: then it is met again
        state.replace(state.with_suffix(".damaged"))


def made_with(state: Path) -> dict:
    """What a state says it was made with: a dictionary."""
    return _description(state, "made_with")


def _read_state(path: Path) -> dict[str, torch.Tensor] | None:
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_STATE:
            return None
        path.open("rb").close()  # safetensors says of a file that may not be read that it is not there
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:  # it may be sound, and another's
        logging.warning("ReVersion: the saved state %s cannot be read (%s); it is passed over", path, error)
    except (SafetensorError, ValueError, RuntimeError) as error:
        logging.warning("ReVersion: the saved state %s is damaged (%s); it is set aside", path, error)
        set_aside(path)
    return None


def _steps_done(folder: Path) -> int:
    """The updates that what is kept in a run's folder has seen: its relation, which stays, or its state."""
    done = _description(folder / RELATION, "reversion.steps_done", int)
    try:
        with safe_open(folder / STATE, framework="pt", device="cpu") as file:
            return max(done, file.get_slice("history").get_shape()[0])
    except (OSError, SafetensorError, IndexError):
        return done


def _description(path: Path, name: str, kind: type = dict):
    """What a file says under a name, of a kind; an empty one where it says nothing that can be read."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            found = json.loads(file.metadata()[name])
        return found if isinstance(found, kind) else kind()
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return kind()


def _short(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:8]


def _picture(path: Path) -> np.ndarray | None:
    try:
        return np.asarray(Image.open(path, formats=("PNG",)).convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        logging.warning("ReVersion: the preview %s cannot be read (%s); it is left out", path, error)
        return None


def _csv(history: list[dict[str, float]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ("step", *history[0]))
    writer.writeheader()
    writer.writerows({"step": i + 1, **record} for i, record in enumerate(history))
    return text.getvalue().encode()
