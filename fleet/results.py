"""The folder where results land: files under the ids of their jobs, and a manifest with a line for each job."""

import json
import os
import re
import uuid
from datetime import datetime, timezone
from pathlib import Path

from reversion_core.store.files import write_whole

from .actor import Outcome
from .errors import FleetError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

MANIFEST = "manifest.jsonl"
RUN = "run.txt"


class Results:
    """A job's files are written whole before its line; a job without a line is done again, into the same names.

    resumed: whether there was a run before; run: the id of the run, 32 hexadecimal digits, by which hosts know its jobs
    from equal ones of others. Raises FleetError where another run is at work in the folder, or it cannot be written.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.manifest = self.folder / MANIFEST

    def __enter__(self):
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.resumed = self.manifest.exists()
            self.file = self.manifest.open("ab+")
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            self._begin()
        except BaseException as error:
            self.file.close()
            raise (self._unwritable(error) if isinstance(error, OSError) else error) from error
        return self

    def _begin(self):
        try:
            if fcntl:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FleetError(f"{self.folder}: another run is at work in this folder") from error
        for partial in self.folder.glob("*.partial"):
            partial.unlink()
        if self.file.tell():
            self.file.seek(-1, os.SEEK_END)
            if self.file.read(1) != b"\n":  # a kill in the middle of a line
                self.file.write(b"\n")
        self.run = self._known_run()
        if not self.run:
            self.run = uuid.uuid4().hex
            write_whole(self.folder / RUN, self.run.encode())

    def _known_run(self):
        try:
            text = (self.folder / RUN).read_bytes()[:40].decode("ascii", "replace").strip()
        except FileNotFoundError:
            return None
        return text if re.fullmatch("[0-9a-f]{32}", text) else None

    def __exit__(self, *exception):
        self.file.close()

    def done(self) -> tuple[set[str], int]:
        """The ids of the jobs that succeeded and whose files are all here, and how many lines are of no known form."""
        last, unknown = {}, 0
        with self.manifest.open("rb") as lines:
            for line in filter(bytes.strip, lines):
                try:
                    record = json.loads(line)
                    last[str(record["job"])] = record["error"] is None and self._complete(record["outputs"])
                except (AttributeError, KeyError, RecursionError, TypeError, ValueError):  # cut off, or edited
                    unknown += 1
        return {job for job, complete in last.items() if complete}, unknown

    def _complete(self, outputs):
        here = []
        for output in outputs:
            path = self.folder / Path(output["file"]).name
            here.append(path.is_file() and path.stat().st_size == output["bytes"])
        return all(here)

    def land(self, job: str, inputs: dict, host: str, outcome: Outcome) -> None:
        """Write the files of a job, then its line."""
        record = {
            "job": job,
            "inputs": inputs,
            "host": host,
            "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seconds": round(outcome.seconds, 3),
            "outputs": [{"file": place, "name": name, "bytes": len(data)} for place, name, data in outcome.files],
            "texts": outcome.texts,
            "error": outcome.error,
        }
        try:
            for place, _, data in outcome.files:
                write_whole(self.folder / place, data)
            self.file.write(json.dumps(record).encode() + b"\n")
            self.file.flush()
            os.fsync(self.file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error):
        return FleetError(f"{self.folder}: cannot be written ({error.strerror or error})")
