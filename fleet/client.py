"""One ComfyUI over HTTP and websocket. Nothing that it sends is trusted: not its sizes, and not its file names."""

import asyncio
import contextlib
import ipaddress
import json
import re
import uuid
from urllib.parse import urlsplit

import aiohttp

from .errors import FleetError, HostError, HostLost, JobFailed

LARGEST_ANSWER = 64 * 2**20  # bytes of JSON
QUIET = 2.0  # seconds without a message after which the host is asked
FETCHED = re.compile(
    r"(.*)\.(png|jpe?g|webp|gif|avif|tiff?|bmp|exr|mp4|webm|mkv|mov|flac|mp3|wav|ogg|opus|txt|json|latent|safetensors|glb)",
    re.IGNORECASE,
)
LONGEST_NAME = 80
LONGEST_TEXT = 10_000


def checked_url(text):
    """The address of a host as http(s)://name[:port]. Raises FleetError for anything else."""
    try:
        parts = urlsplit(text.strip())
        name, port = parts.hostname or "", parts.port
        if ":" in name:
            ipaddress.IPv6Address(name)
            name = f"[{name}]"
        elif not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", name):
            raise ValueError("it has no proper host name")
        if parts.scheme not in ("http", "https") or "@" in parts.netloc or parts.path not in ("", "/"):
            raise ValueError("it has a user, a path or another scheme")
        if parts.query or parts.fragment:
            raise ValueError("it has a query")
    except ValueError as error:
        raise FleetError(f"{text!r} is not an address such as http://127.0.0.1:8188: {error}") from error
    return f"{parts.scheme}://{name}" + (f":{port}" if port else "")


def landing_name(job, number, name):
    """Where a host's file lands: under the job's id, flat, with a known suffix; the same wherever the job ran."""
    if not isinstance(name, str) or re.search(r"[/\\:\x00-\x1f]|^\.", name):
        raise JobFailed(f"the host names a file {name!r}, which is refused")
    if not (known := FETCHED.fullmatch(name)):
        raise JobFailed(f"the host names a file {name!r}, which is of no kind that is fetched")
    stem = re.sub(r"_\d{5}_?$", "", known[1])  # the host's own counter
    return f"{job}-{number:03}-{re.sub(r'[^A-Za-z0-9_-]+', '_', stem)[:LONGEST_NAME]}.{known[2].lower()}"


def choices(spec):
    """The options of a combo input in a schema, of either form; None where it is no combo."""
    if isinstance(spec[0], list):
        return spec[0]
    return spec[1].get("options") if spec[0] == "COMBO" and len(spec) > 1 else None


class Client:
    """url: as `checked_url` gives it. What is lost on the way raises HostLost, a job that fails JobFailed."""

    def __init__(self, url):
        self.url, self.id = url, uuid.uuid4().hex
        self.session = self.socket = None
        self.progress = ""

    async def close(self):
        if self.session:
            await self.session.close()
        self.session = self.socket = None

    @contextlib.asynccontextmanager
    async def _asking(self, method, path, **more):
        if not self.session:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
            self.session = aiohttp.ClientSession(timeout=timeout)
        try:
            async with self.session.request(method, f"{self.url}/{path}", allow_redirects=False, **more) as response:
                if response.status in (502, 503, 504):
                    raise HostLost(f"HTTP {response.status}")
                yield response
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise HostLost(str(error) or type(error).__name__) from error

    async def get(self, path):
        """A JSON answer."""
        async with self._asking("GET", path) as response:
            body = await _capped(response, LARGEST_ANSWER)
            if response.status != 200:
                raise HostError(f"it answers HTTP {response.status} to /{path}")
        return _parsed(body)

    async def post(self, path, data):
        """(HTTP status, bytes)."""
        async with self._asking("POST", path, json=data) as response:
            return response.status, await _capped(response, LARGEST_ANSWER)

    async def lacks(self, classes, files):
        """What of a workflow's classes and model files ([(node id, class, input, name)]) the host lacks: sentences."""
        schemas = await self.get("object_info")
        missing = [name for name in classes if name not in schemas]
        said = [f"it lacks the nodes {', '.join(missing)}; install their pack there"] if missing else []
        for node, class_, name, value in files:
            inputs = schemas.get(class_, {}).get("input", {})
            spec = {**inputs.get("required", {}), **inputs.get("optional", {})}.get(name)
            options = spec and choices(spec)
            if options is not None and value not in options:
                said.append(f"node {node} ({class_}), input '{name}': it has no '{value}'")
        return said

    async def run(self, job, graph, known=False):
        """Run a graph under the id of its job; returns the outputs of its nodes as the host gives them.

        known: the host may have had this job before, then it is taken up and not begun again.
        """
        prompt = str(uuid.UUID(job))
        await self._connect()
        entry = await self._entry(prompt) if known else None
        if entry and not _failure(entry):
            return entry["outputs"]
        if entry:
            await self.post("history", {"delete": [prompt]})
        if not (known and prompt in await self._queued()):
            await self._submit(prompt, graph)
        entry = await self._follow(prompt, graph)
        if failure := _failure(entry):
            raise JobFailed(failure)
        return entry["outputs"]

    async def _connect(self):
        if self.socket and not self.socket.closed:
            return
        # The session is made by the first request, and a host that is gone says so here.
        await self.get("prompt")
        try:
            self.socket = await self.session.ws_connect(f"{self.url}/ws", params={"clientId": self.id}, heartbeat=60)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise HostLost(str(error) or type(error).__name__) from error

    async def _submit(self, prompt, graph):
        data = {"prompt": graph, "prompt_id": prompt, "client_id": self.id}
        status, body = await self.post("prompt", data)
        if status not in (200, 400):
            raise JobFailed(f"HTTP {status}: {body[:500].decode(errors='replace')}")
        answer = _parsed(body)
        if status == 200 and answer.get("node_errors"):
            await self.cancel(prompt)  # the host would make only some of the outputs
        if status == 400 or answer.get("node_errors"):
            raise JobFailed(_refusal(answer))

    async def cancel(self, prompt):
        await self.post("queue", {"delete": [prompt]})
        await self.post("interrupt", {"prompt_id": prompt})

    async def _follow(self, prompt, graph):
        """Read messages until the host is done with a prompt; its history entry. A silent host is asked instead."""
        while True:
            message = await self._message()
            kind, data = (message.get("type"), message.get("data") or {}) if message else (None, {})
            if data.get("prompt_id", prompt) != prompt:
                continue
            if kind == "progress":
                class_ = graph.get(str(data.get("node")), {}).get("class_type", "")
                self.progress = f"{class_} {data.get('value')}/{data.get('max')}"
            elif message is None or (kind == "executing" and data.get("node") is None):
                if entry := await self._entry(prompt):
                    return entry
                if message is None and prompt not in await self._queued():
                    if entry := await self._entry(prompt):
                        return entry
                    raise HostLost("it no longer knows the job")

    async def _message(self):
        """The next message; None where there is none for a while, or the connection had to be made anew."""
        try:
            message = await self.socket.receive(QUIET)
        except asyncio.TimeoutError:
            return None
        if message.type is aiohttp.WSMsgType.TEXT:
            return _parsed(message.data)
        if message.type is aiohttp.WSMsgType.BINARY:
            return {}
        await self.socket.close()
        await self._connect()
        return None

    async def _entry(self, prompt):
        return (await self.get(f"history/{prompt}")).get(prompt)

    async def _queued(self):
        queue = await self.get("queue")
        return {item[1] for kind in ("queue_running", "queue_pending") for item in queue[kind]}

    async def fetch(self, job, outputs, limit):
        """The files of a job's outputs: [(landing name, the host's name, bytes)]; limit: bytes of them all."""
        files = []
        for file in _files(outputs):
            place = landing_name(job, len(files), file["filename"])
            query = {"filename": file["filename"], "subfolder": str(file.get("subfolder", "")), "type": "output"}
            async with self._asking("GET", "view", params=query) as response:
                if response.status != 200:
                    raise JobFailed(f"{file['filename']}: the host answers HTTP {response.status}")
                data = await _capped(response, limit)
            limit -= len(data)
            files.append((place, file["filename"], data))
        return files


def _files(outputs):
    """What the nodes of a job saved, in an order that is the same on every host; previews are not kept."""
    return [
        file
        for _, node in sorted(outputs.items())
        for _, values in sorted(node.items())
        for file in (values if isinstance(values, list) else ())
        if isinstance(file, dict) and file.get("type") == "output" and "filename" in file
    ]


def texts(outputs):
    """Node id -> the texts that it showed, cut to a reasonable length."""
    shown = {node: values["text"] for node, values in outputs.items() if values.get("text")}
    return {node: "\n".join(map(str, text))[:LONGEST_TEXT] for node, text in shown.items()}


async def _capped(response, limit):
    data = bytearray()
    async for chunk in response.content.iter_chunked(2**16):
        data += chunk
        if len(data) > limit:
            raise JobFailed(f"the host sends more than the {limit} bytes that are left for this job")
    return bytes(data)


def _parsed(body):
    try:
        return json.loads(body)
    except ValueError as error:
        raise HostError("it does not answer as ComfyUI does") from error


def _failure(entry):
    """The host's message where a prompt did not succeed, else None."""
    if entry["status"]["status_str"] == "success":
        return None
    for kind, message in entry["status"]["messages"]:
        if kind == "execution_error":
            where = f"node {message.get('node_id')} ({message.get('node_type')})"
            return f"{where}: {message.get('exception_message', '').strip()}"
        if kind == "execution_interrupted":
            return "interrupted on the host"
    return "the host gives no reason"


def _refusal(answer):
    """The messages in the host's answer to a prompt that it does not accept."""
    errors = [("", answer.get("error") or {})]
    for id_, node in (answer.get("node_errors") or {}).items():
        errors += [(f"node {id_} ({node.get('class_type')}): ", error) for error in node["errors"]]
    said = [f"{where}{e.get('message', '')} {e.get('details', '')}".strip() for where, e in errors if e]
    return " | ".join(said)
