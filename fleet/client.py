"""One ComfyUI over HTTP and websocket. Nothing that it sends is trusted: not its sizes, its files, nor its patience."""

import asyncio
import contextlib
import time
import uuid

import aiohttp

from . import answers, origin
from .errors import HostFault, HostLost, JobFailed
from .messages import Messages

LARGEST_ANSWER = 64 * 2**20  # bytes of JSON
ANSWER_SECONDS = 120.0  # for a whole answer, however steadily it drips
FILE_SECONDS = 900.0  # for a whole file
QUIET = 2.0  # seconds without a message about the job after which the host is asked
LONGEST_UNASKED = 30.0  # seconds after which it is asked in any case
GONE = (502, 503, 504)  # what a proxy says for a host that is not there


class NotThisJobs(Exception):
    """Files that a host names were not made by this job; nodes: those that it says saved them."""

    def __init__(self, names, nodes):
        super().__init__(f"what it has under the name {names[0]} was not made by this job")
        self.nodes = nodes


class Client:
    """url: as `checked_url` gives it; run: the id of the run that asks, 32 hexadecimal digits.

    What is lost on the way raises HostLost, an answer that is not ComfyUI's HostFault, a job that fails JobFailed.
    asked: the prompt that this client gave to the host and that the host is not done with.
    """

    def __init__(self, url: str, run: str):
        self.url, self.run_id, self.id = url, uuid.UUID(run), uuid.uuid4().hex
        self.session = self.messages = self.asked = None
        self.progress = ""

    async def close(self) -> None:
        if self.session:
            await self.session.close()
        self.session = self.messages = None

    def _open(self):
        if not self.session:
            tracing = aiohttp.TraceConfig()
            tracing.on_request_redirect.append(_refuse_redirect)
            self.session = aiohttp.ClientSession(trace_configs=[tracing])
            self.messages = Messages(self.session, self.url, self.id)
        return self.session

    @contextlib.asynccontextmanager
    async def _asking(self, method, path, seconds, **more):
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=10)
        try:
            async with self._open().request(
                method, f"{self.url}/{path}", allow_redirects=False, timeout=timeout, **more
            ) as response:
                if response.status in GONE:
                    raise HostLost(f"HTTP {response.status}")
                if response.status >= 500 or 300 <= response.status < 400:
                    raise HostFault(f"it answers HTTP {response.status} to /{path}")
                yield response
        except asyncio.TimeoutError as error:
            raise HostLost(f"no whole answer to /{path} within {seconds:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise HostLost(str(error) or type(error).__name__) from error

    async def get(self, path: str, seconds: float | None = None) -> dict:
        """A JSON object; seconds: for the whole answer."""
        async with self._asking("GET", path, seconds or ANSWER_SECONDS) as response:
            body = await _capped(response, LARGEST_ANSWER)
            if response.status != 200:
                raise HostFault(f"it answers HTTP {response.status} to /{path}")
        return answers.parsed(body)

    async def _post(self, path, data):
        """(HTTP status, bytes)."""
        async with self._asking("POST", path, ANSWER_SECONDS, json=data) as response:
            return response.status, await _capped(response, LARGEST_ANSWER)

    async def run(self, job: str, graph: dict, known: bool, limit: int) -> tuple[dict, list]:
        """Run the graph of a job: (outputs of its nodes as the host gives them, files as `_fetch` gives them).

        known: this run may have given the job to the host before; then it is taken up. Files that this job did not
        make, or that are gone, are saved anew. limit: bytes of all files.
        """
        self._open()
        await self.messages.connect()
        prompt = str(uuid.uuid5(self.run_id, job))
        waiting = known and prompt in set.union(*await self._queue())
        entry = await self._entry(prompt) if known else None
        fresh = not entry or entry.failure is not None
        if fresh:
            entry = await self._made(prompt, graph, waiting=waiting, forget=entry is not None)
        try:
            return entry.outputs, await self._fetch(job, entry, fresh, limit)
        except NotThisJobs as error:
            graph = origin.marked(graph, error.nodes, uuid.uuid4().hex)
        entry = await self._made(prompt, graph, forget=True)
        try:
            return entry.outputs, await self._fetch(job, entry, True, limit)
        except NotThisJobs as error:
            raise HostFault(str(error)) from error

    async def _made(self, prompt, graph, waiting=False, forget=False):
        """The history entry of a prompt, once the host is done with it. waiting: the host has it in its queue; forget:
        the host has an old entry of it."""
        if forget:
            await self._post("history", {"delete": [prompt]})
        if not waiting:
            await self._submit(prompt, graph)
        entry = await self._follow(prompt, graph)
        self.asked = None
        if entry.failure is not None:
            raise (HostFault if entry.of_machine else JobFailed)(entry.failure)
        return entry

    async def _submit(self, prompt, graph):
        self.asked = prompt
        data = {"prompt": graph, "prompt_id": prompt, "client_id": self.id}
        status, body = await self._post("prompt", data)
        if status not in (200, 400):
            raise HostFault(f"it answers HTTP {status} to /prompt: {body[:500].decode(errors='replace')}")
        refused = answers.refusal(answers.parsed(body))
        if status == 200 and refused:
            await self.cancel()  # the host would make only some of the outputs
        if status == 400 and not refused:
            raise HostFault("it answers HTTP 400 to /prompt and gives no reason")
        if refused:
            self.asked = None
            raise JobFailed(refused)

    async def cancel(self) -> None:
        """End what this client asked for and the host is not done with; nothing else is touched."""
        if prompt := self.asked:
            await self._post("queue", {"delete": [prompt]})
            running, _ = await self._queue()
            if prompt in running:
                await self._post("interrupt", {"prompt_id": prompt})

    async def _follow(self, prompt, graph):
        """Read messages until the host is done with a prompt; its history entry.

        A host that is silent about this prompt is asked, whatever it tells of others; so is one that never comes to an
        end, or has no websocket.
        """
        heard = asked = time.monotonic()
        told = False
        while True:
            due = min(heard + QUIET, asked + LONGEST_UNASKED)
            message = await self.messages.next(due - time.monotonic())
            if message and message["data"].get("prompt_id") == prompt:
                heard = time.monotonic()
                self._note_progress(message, graph)
                ended = message.get("type") == "executing" and message["data"].get("node") is None
                if told or not ended:
                    continue
                told = True
            elif time.monotonic() < due:
                continue
            if entry := await self._entry(prompt):
                return entry
            if prompt not in set.union(*await self._queue()):
                if entry := await self._entry(prompt):
                    return entry
                raise HostLost("it no longer knows the job")
            heard = asked = time.monotonic()

    def _note_progress(self, message, graph):
        if message.get("type") == "progress":
            data = message["data"]
            class_ = graph.get(str(data.get("node")), {}).get("class_type", "")
            self.progress = f"{class_} {data.get('value')}/{data.get('max')}"[:80]

    async def _entry(self, prompt):
        return answers.history_entry(await self.get(f"history/{prompt}"), prompt)

    async def _queue(self):
        return answers.queued(await self.get("queue"))

    async def _fetch(self, job, entry, fresh, limit):
        """The files of a job: [(landing name, the host's name, bytes)].

        fresh: the host finished the prompt just now, so that a node which was run then is known to have saved its
        files; else only what a file says of itself counts. Raises NotThisJobs for files that are gone or another's.
        """
        files, names, nodes = [], [], set()
        for file in answers.saved_files(entry.outputs):
            place = answers.landing_name(job, len(files) + len(names), file.name)
            data = await self._file(file, limit)
            node = origin.root(file.node, entry.graph)
            ours = data is not None and origin.comes_from(data, file.name, entry.graph, file.node)
            if ours or (ours is None and fresh and node not in entry.cached):
                limit -= len(data)
                files.append((place, file.name, data))
            else:
                names.append(file.name)
                nodes.add(node)
        if names:
            raise NotThisJobs(names, nodes)
        return files

    async def _file(self, file, limit):
        """The bytes of a file, None where the host has none of that name."""
        query = {"filename": file.name, "subfolder": file.subfolder, "type": "output"}
        async with self._asking("GET", "view", FILE_SECONDS, params=query) as response:
            if response.status == 404:
                return None
            if response.status != 200:
                raise HostFault(f"it answers HTTP {response.status} to /view")
            return await _capped(response, limit, of_job=True)


async def _refuse_redirect(session, context, redirect):
    """A websocket follows redirects and has no option against it."""
    redirect.response.close()
    raise aiohttp.ClientError("it redirects, which is not followed")


async def _capped(response, limit, of_job=False):
    data = bytearray()
    async for chunk in response.content.iter_chunked(2**16):
        data += chunk
        if len(data) > limit:
            if of_job:
                raise JobFailed(f"the host sends more than the {limit} bytes that are left for this job")
            raise HostFault(f"it sends more than {limit} bytes of JSON")
    return bytes(data)
