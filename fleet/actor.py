"""What Ray runs: one actor a host."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

from . import answers
from .client import ANSWER_SECONDS, Client
from .errors import HostError, HostLost, JobFailed
from .local import Installation, LocalHost


@dataclass
class Outcome:
    """What came of a job: seconds on the host; files: [(landing name, the host's name, bytes)]; texts: node id -> what
    it showed; error: the host's message where the job failed."""

    seconds: float = 0.0
    files: list = field(default_factory=list)
    texts: dict = field(default_factory=dict)
    error: str | None = None


class Host:
    """A ComfyUI at `url`, or one that this actor starts from an `installation` in `folder` and keeps alive.

    run: the id of the run; patience: seconds to wait for an answer; limit: bytes that are fetched for a job.
    """

    def __init__(
        self,
        run: str,
        patience: float,
        limit: int,
        url: str | None = None,
        installation: Installation | None = None,
        folder: str | None = None,
    ):
        self.patience, self.limit = patience, limit
        self.local = LocalHost(installation, folder) if installation else None
        self.client = Client(url or self.local.url, run)
        self.joined = False

    async def schemas(self, classes: list) -> dict:
        """Class -> its entry of /object_info, for those of `classes` that the host has. Raises HostError."""
        await self._answer("system_stats")
        known = await self._answer("object_info")
        return {name: known[name] for name in classes if name in known}

    async def join(self, classes: list, files: list) -> None:
        """Wait until the host is ready, starting a local one that is not alive. Raises HostError where the host cannot
        run the workflow."""
        known = await self.schemas(classes)
        if said := answers.lacking(known, classes, files):
            raise HostError("; ".join(said))
        self.joined = True

    async def _answer(self, path):
        """A JSON answer of the host, asked for until it comes or patience ends."""
        if self.local and not self.local.alive():
            self.local.start()
        deadline = time.monotonic() + self.patience
        while True:
            try:
                return await self.client.get(path, min(ANSWER_SECONDS, max(self.patience, 1.0)))
            except HostLost as error:
                if self.local and not self.local.alive():
                    raise HostError(f"it ended while it started:\n{self.local.last_words()}") from error
                if time.monotonic() > deadline:
                    raise HostError(f"no answer for {self.patience:g} s ({error})") from error
            await asyncio.sleep(0.3)

    async def run(self, job: str, graph: dict, known: bool) -> Outcome:
        """Do a job. Raises HostLost where the host died or is at fault."""
        if not self.joined:
            raise HostLost("its worker was restarted")
        self.client.progress = ""
        began, outcome = time.monotonic(), Outcome()
        try:
            outputs, outcome.files = await self.client.run(job, graph, known, self.limit)
            outcome.texts = answers.shown_texts(outputs)
        except JobFailed as failure:
            outcome.error = str(failure)
        except HostLost:
            self.joined = False
            raise
        outcome.seconds = time.monotonic() - began
        return outcome

    async def progress(self) -> str:
        return self.client.progress

    async def stop(self) -> None:
        """End what this actor asked for, close, and end a local host."""
        with contextlib.suppress(HostLost):
            await self.client.cancel()
        await self.client.close()
        if self.local:
            self.local.stop()
