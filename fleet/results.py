"""The folder where results land: files under the ids of their jobs, and a manifest with a line for each job."""

import json
import os
from datetime import datetime, timezone
from pathlib import Path

from reversion_core.store.files import write_whole

from .errors import FleetError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

MANIFEST = "manifest.jsonl"


class Results:
    """A job's files are written whole before its line; a job without a line is done again, into the same names.

    resumed: whether there was a run before. Raises FleetError where another one is at work in the folder.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.manifest = self.folder / MANIFEST

    def __enter__(self):
        self.resumed = self.manifest.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file = self.manifest.open("ab+")
        try:
            if fcntl:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.file.close()
            raise FleetError(f"{self.folder}: another run is at work in this folder") from error
        for partial in self.folder.glob("*.partial"):
            partial.unlink()
        if self.file.tell():
            self.file.seek(-1, os.SEEK_END)
            if self.file.read(1) != b"\n":  # a kill in the middle of a line
                self.file.write(b"\n")
        return self

    def __exit__(self, *exception):
        self.file.close()

    def done(self):
        """The ids of the jobs that succeeded and whose files are all here."""
        last = {}
        with self.manifest.open(encoding="utf-8") as lines:
            for line in lines:
                try:
                    record = json.loads(line)
                except ValueError:  # cut off
                    continue
                last[record["job"]] = record["error"] is None and self._complete(record["outputs"])
        return {job for job, complete in last.items() if complete}

    def _complete(self, outputs):
        files = [(self.folder / output["file"], output["bytes"]) for output in outputs]
        return all(path.is_file() and path.stat().st_size == size for path, size in files)

    def land(self, job, inputs, host, result):
        """Write the files of a job, then its line."""
        for place, _, data in result["files"]:
            write_whole(self.folder / place, data)
        record = {
            "job": job,
            "inputs": inputs,
            "host": host,
            "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seconds": round(result["seconds"], 3),
            "outputs": [{"file": place, "name": name, "bytes": len(data)} for place, name, data in result["files"]],
            "texts": result["texts"],
            "error": result["error"],
        }
        self.file.write(json.dumps(record).encode() + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())
