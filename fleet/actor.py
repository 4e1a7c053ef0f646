"""What Ray runs: one actor a host."""

import asyncio
import contextlib
import time
import uuid

from .client import Client, texts
from .errors import HostError, HostLost, JobFailed
from .local import LocalHost


class Host:
    """A ComfyUI at `url`, or one that this actor starts from an `installation` in `folder` and keeps alive.

    patience: seconds to wait for an answer; limit: bytes that are fetched for a job.
    """

    def __init__(self, patience, limit, url=None, installation=None, folder=None):
        self.patience, self.limit = patience, limit
        self.local = LocalHost(installation, folder) if installation else None
        self.client = Client(url or self.local.url)
        self.joined, self.job = False, None

    async def schemas(self, classes):
        """Class -> its entry of /object_info, for those of `classes` that the host has."""
        await self._up()
        known = await self.client.get("object_info")
        return {name: known[name] for name in classes if name in known}

    async def join(self, classes, files):
        """Wait until the host is ready, starting a local one that is not alive. Raises HostError where the host cannot
        run the workflow."""
        await self._up()
        if said := await self.client.lacks(classes, files):
            raise HostError("; ".join(said))
        self.joined = True

    async def _up(self):
        if self.local and not self.local.alive():
            self.local.start()
        deadline = time.monotonic() + self.patience
        while True:
            try:
                await self.client.get("system_stats")
                return
            except HostLost as error:
                if self.local and not self.local.alive():
                    raise HostError(f"it ended while it started:\n{self.local.last_words()}") from error
                if time.monotonic() > deadline:
                    raise HostError(f"no answer for {self.patience:g} s ({error})") from error
            await asyncio.sleep(0.3)

    async def run(self, job, graph, known):
        """{"seconds", "files", "texts", "error"} of a job. Raises HostLost where the host died under it."""
        if not self.joined:
            raise HostLost("its worker was restarted")
        self.job, self.client.progress = job, ""
        began, result = time.monotonic(), {"files": [], "texts": {}, "error": None}
        try:
            outputs = await self.client.run(job, graph, known)
            result |= {"seconds": time.monotonic() - began, "texts": texts(outputs)}
            result["files"] = await self.client.fetch(job, outputs, self.limit)
        except JobFailed as failure:
            result["error"] = str(failure)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            result["error"] = f"the host does not answer as ComfyUI does ({error!r})"
        except HostLost:
            self.joined = False
            raise
        finally:
            self.job = None
        return {"seconds": time.monotonic() - began, **result}

    async def progress(self):
        return self.client.progress

    async def stop(self):
        """Cancel what runs, close, and end a local host."""
        if self.job:
            with contextlib.suppress(HostLost):
                await self.client.cancel(str(uuid.UUID(self.job)))
        await self.client.close()
        if self.local:
            self.local.stop()
