"""Hosts that speak ComfyUI's protocol and sleep instead of drawing, to measure what the fleet itself costs."""

import argparse
import asyncio
import contextlib
import json
import time

from aiohttp import web

NODE = "SimulatedPicture"
KEPT = 1000  # finished jobs
SCHEMA = {
    "seconds": ["FLOAT", {}],
    "filename": ["STRING", {}],
    "size": ["INT", {}],
    "model": [["there.safetensors"], {}],
    "number": ["INT", {}],
}


def graph(seconds, filename="picture_00001_.png", size=100_000, model="there.safetensors", number=0):
    """A job of so many seconds whose picture has so many bytes; number tells equal jobs apart."""
    inputs = {"seconds": seconds, "filename": filename, "size": size, "model": model, "number": number}
    return {"1": {"class_type": NODE, "inputs": inputs}}


class Simulated:
    """One host: a queue, a history and the sockets of its clients."""

    def __init__(self):
        self.queue, self.waiting, self.history, self.sockets = asyncio.Queue(), {}, {}, {}
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
        app.add_routes([web.post("/prompt", self._submit)])
        app.add_routes([web.post(f"/{path}", self._nothing) for path in ("queue", "interrupt", "history")])
        app.cleanup_ctx.append(self._working)
        return app

    async def _working(self, app):
        worker = asyncio.create_task(self._work())
        yield
        worker.cancel()

    async def _work(self):
        while True:
            id_, client, prompt = await self.queue.get()
            if self.ended is not None:
                self.idle += time.monotonic() - self.ended
            for node, values in prompt.items():
                await self._tell(client, "executing", {"node": node, "prompt_id": id_})
                await self._tell(client, "progress", {"node": node, "prompt_id": id_, "value": 0, "max": 1})
                await asyncio.sleep(values["inputs"]["seconds"])
            self.ended = time.monotonic()
            self.jobs += 1
            inputs = [(node, values["inputs"]) for node, values in prompt.items()]
            self.size = inputs[-1][1]["size"]
            pictures = {
                node: {"images": [{"filename": given["filename"], "subfolder": "", "type": "output"}]}
                for node, given in inputs
            }
            self.history[id_] = {"outputs": pictures, "status": {"status_str": "success", "messages": []}}
            del self.waiting[id_]
            if len(self.history) > KEPT:
                del self.history[next(iter(self.history))]
            await self._tell(client, "executing", {"node": None, "prompt_id": id_})

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
        return web.json_response({"queue_running": [[0, id_] for id_ in self.waiting], "queue_pending": []})

    async def _get_history(self, request):
        id_ = request.match_info["id"]
        return web.json_response({id_: self.history[id_]} if id_ in self.history else {})

    async def _view(self, request):
        return web.Response(body=bytes(self.size), content_type="image/png")

    async def _schemas(self, request):
        return web.json_response({NODE: {"input": {"required": SCHEMA}}})

    async def _stats(self, request):
        """Beside what ComfyUI says: how many jobs were done, and the seconds between the end of one and the next."""
        return web.json_response({"system": {}, "devices": [], "jobs": self.jobs, "idle_s": self.idle})

    async def _nothing(self, request):
        return web.Response()


async def serve(count, port):
    """Start hosts and say their addresses on standard output, as a JSON list; port: of the first, 0 for any."""
    urls = []
    for _ in range(count):
        runner = web.AppRunner(Simulated().app(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0 if urls else port).start()
        urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
    print(json.dumps(urls), flush=True)  # noqa: T201
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--port", type=int, default=0)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(**vars(parser.parse_args())))
