"""Hosts that speak ComfyUI's protocol and sleep instead of drawing, to measure what the fleet itself costs."""

import argparse
import asyncio
import contextlib
import io
import json
import struct
import time
import zlib

from aiohttp import web
from PIL import Image, PngImagePlugin

NODE = "SimulatedPicture"
KEPT = 1000  # finished jobs
SCHEMA = {
    "seconds": ["FLOAT", {}],
    "filename": ["STRING", {}],
    "size": ["INT", {}],
    "model": [["there.safetensors"], {}],
    "number": ["INT", {}],
}


def graph(
    seconds: float,
    filename: str = "picture_00001_.png",
    size: int = 100_000,
    model: str = "there.safetensors",
    number: int = 0,
) -> dict:
    """A job of so many seconds whose picture has so many bytes at least; number tells equal jobs apart."""
    inputs = {"seconds": seconds, "filename": filename, "size": size, "model": model, "number": number}
    return {"1": {"class_type": NODE, "inputs": inputs}}


def picture(prompt: dict, size: int) -> bytes:
    """A PNG of so many bytes at least, with the graph in it as ComfyUI writes it."""
    text = PngImagePlugin.PngInfo()
    text.add_text("prompt", json.dumps(prompt))
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "PNG", pnginfo=text)
    whole, chunk = file.getvalue(), b"fiLl" + bytes(max(0, size - file.tell() - 12))
    filling = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return whole[:-12] + filling + whole[-12:]  # before the chunk that ends the file


class Simulated:
    """One host: a queue, a history and the sockets of its clients. Its output folder has one place for each name."""

    def __init__(self):
        self.queue, self.waiting, self.history, self.sockets = asyncio.Queue(), {}, {}, {}
        self.files, self.running = {}, None
        self.jobs, self.idle, self.ended = 0, 0.0, None

    def app(self):
        app = web.Application()
        routes = {
            "/ws": self._socket,
            "/prompt": self._count,
            "/queue": self._get_queue,
            "/history/{id}": self._get_history,
            "/view": self._view,
            "/object_info": self._schemas,
            "/system_stats": self._stats,
        }
        app.add_routes([web.get(path, handler) for path, handler in routes.items()])
        answers = {
            "/prompt": self._submit,
            "/queue": self._delete_from_queue,
            "/interrupt": self._interrupt,
            "/history": self._delete_from_history,
        }
        app.add_routes([web.post(path, handler) for path, handler in answers.items()])
        app.cleanup_ctx.append(self._working)
        return app

    async def _working(self, app):
        worker = asyncio.create_task(self._work())
        yield
        worker.cancel()

    async def _work(self):
        while True:
            id_, client, prompt = await self.queue.get()
            if id_ not in self.waiting:  # deleted
                continue
            if self.ended is not None:
                self.idle += time.monotonic() - self.ended
            self.running = id_, asyncio.create_task(self._draw(id_, client, prompt))
            with contextlib.suppress(asyncio.CancelledError):
                await self.running[1]
            interrupted, self.running = self.running[1].cancelled(), None
            self.ended = time.monotonic()
            self.jobs += 1
            self._note(id_, prompt, interrupted)
            del self.waiting[id_]
            await self._tell(client, "executing", {"node": None, "prompt_id": id_})

    async def _draw(self, id_, client, prompt):
        for node, values in prompt.items():
            await self._tell(client, "executing", {"node": node, "prompt_id": id_})
            await self._tell(client, "progress", {"node": node, "prompt_id": id_, "value": 0, "max": 1})
            await asyncio.sleep(values["inputs"]["seconds"])

    def _note(self, id_, prompt, interrupted):
        """Save what a prompt made, and enter it in the history."""
        outputs = {}
        for node, values in {} if interrupted else prompt.items():
            name = values["inputs"]["filename"]
            outputs[node] = {"images": [{"filename": name, "subfolder": "", "type": "output"}]}
            self.files[name] = picture(prompt, values["inputs"]["size"])
        status = {"status_str": "success", "messages": []}
        if interrupted:
            status = {"status_str": "error", "messages": [["execution_interrupted", {"prompt_id": id_}]]}
        self.history[id_] = {"prompt": [0, id_, prompt, {}, list(prompt)], "outputs": outputs, "status": status}
        if len(self.history) > KEPT:
            del self.history[next(iter(self.history))]

    async def _tell(self, client, kind, data):
        if client in self.sockets:
            with contextlib.suppress(ConnectionError):
                await self.sockets[client].send_json({"type": kind, "data": data})

    async def _socket(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets[request.query.get("clientId", "")] = socket
        async for _ in socket:
            pass
        return socket

    async def _submit(self, request):
        data = await request.json()
        self.waiting[data["prompt_id"]] = None
        self.queue.put_nowait((data["prompt_id"], data.get("client_id"), data["prompt"]))
        return web.json_response({"prompt_id": data["prompt_id"], "number": 0, "node_errors": {}})

    async def _count(self, request):
        return web.json_response({"exec_info": {"queue_remaining": len(self.waiting)}})

    async def _get_queue(self, request):
        running = self.running[0] if self.running else None
        waiting = [[0, id_] for id_ in self.waiting if id_ != running]
        return web.json_response({"queue_running": [[0, running]] if running else [], "queue_pending": waiting})

    async def _get_history(self, request):
        id_ = request.match_info["id"]
        return web.json_response({id_: self.history[id_]} if id_ in self.history else {})

    async def _view(self, request):
        name = request.query.get("filename")
        if name not in self.files:
            return web.Response(status=404)
        return web.Response(body=self.files[name], content_type="image/png")

    async def _schemas(self, request):
        return web.json_response({NODE: {"input": {"required": SCHEMA}}})

    async def _stats(self, request):
        """Beside what ComfyUI says: how many jobs were done, and the seconds between the end of one and the next."""
        return web.json_response({"system": {}, "devices": [], "jobs": self.jobs, "idle_s": self.idle})

    async def _delete_from_queue(self, request):
        running = self.running[0] if self.running else None
        for id_ in (await request.json())["delete"]:
            if id_ != running:
                self.waiting.pop(id_, None)
        return web.Response()

    async def _interrupt(self, request):
        if self.running and self.running[0] == (await request.json())["prompt_id"]:
            self.running[1].cancel()
        return web.Response()

    async def _delete_from_history(self, request):
        for id_ in (await request.json())["delete"]:
            self.history.pop(id_, None)
        return web.Response()


async def serve(count: int, port: int, address: str) -> None:
    """Start hosts at an IP address and say their URLs on standard output, as a JSON list.

    port: of the first, 0 for any.
    """
    urls = []
    for _ in range(count):
        runner = web.AppRunner(Simulated().app(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, address, 0 if urls else port).start()
        urls.append(f"http://{address}:{runner.addresses[0][1]}")
    print(json.dumps(urls), flush=True)  # noqa: T201
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--address", default="127.0.0.1")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(**vars(parser.parse_args())))
