"""Hosts that misbehave, each in one way, served from a thread of this process so that a test can look into them."""

import asyncio
import contextlib
import threading

from aiohttp import web

from fleet.simulated import Simulated, graph, picture


@contextlib.contextmanager
def serving(host):
    """The address of a host, while it is served."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    runner = web.AppRunner(host.app(), access_log=None, shutdown_timeout=0.1)

    async def start():
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ready.set()

    def serve():
        asyncio.set_event_loop(loop)
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(20)
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


class Counting(Simulated):
    """Notes what it is asked for."""

    def __init__(self):
        super().__init__()
        self.submitted, self.connected = [], 0

    async def _submit(self, request):
        self.submitted.append(await request.json())
        return await super()._submit(request)

    async def _socket(self, request):
        self.connected += 1
        return await super()._socket(request)


class Gated(Counting):
    """Draws every job until it is released."""

    def __init__(self):
        super().__init__()
        self.released = threading.Event()

    async def _draw(self, id_, client, prompt):
        while not self.released.is_set():
            await asyncio.sleep(0.02)


class NoWebsocket(Counting):
    async def _socket(self, request):
        return web.Response(status=404)


class ClosingWebsocket(Counting):
    async def _socket(self, request):
        self.connected += 1
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.close()
        return socket


class Broadcasting(Gated):
    """Tells everyone something all the time, and of the end of a job nobody; the job in `about` stays in progress."""

    about = None

    async def _tell(self, client, kind, data):
        pass

    async def _socket(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        with contextlib.suppress(ConnectionError):
            while not socket.closed:
                await socket.send_json({"type": "progress", "data": {"prompt_id": self.about, "value": 1, "max": 2}})
                await asyncio.sleep(0.02)
        return socket


class Dripping(Counting):
    """Sends its answers byte by byte, and never the last one."""

    async def _get_history(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.02)
        return response


class Redirecting(Counting):
    """Sends websockets elsewhere."""

    elsewhere = ""

    async def _socket(self, request):
        return web.HTTPFound(f"{self.elsewhere}/ws")


class ServerErrors(Counting):
    async def _submit(self, request):
        self.submitted.append(await request.json())
        return web.Response(status=500)


class HangingUp(Counting):
    async def _submit(self, request):
        self.submitted.append(await request.json())
        request.transport.close()
        return web.Response()


class Garbage(Counting):
    async def _get_history(self, request):
        return web.Response(text="<html>" if self.history else "{}")


class Failing(Counting):
    """Every job fails in a node."""

    kind, message = "RuntimeError", "a broken pack"

    def _note(self, id_, prompt, interrupted):
        super()._note(id_, prompt, interrupted)
        error = {"node_id": "1", "node_type": "Save", "exception_type": self.kind, "exception_message": self.message}
        self.history[id_] |= {
            "outputs": {},
            "status": {"status_str": "error", "messages": [["execution_error", error]]},
        }


class FullDisk(Failing):
    kind, message = "OSError", "[Errno 28] No space left on device"


class LittleMemory(Failing):
    kind, message = "ReVersion (this machine)", "ReVersion Train, input 'exemplars': there is not enough memory"


class ShortFiles(Counting):
    """Files end early."""

    async def _view(self, request):
        response = web.StreamResponse(headers={"Content-Length": "100000"})
        await response.prepare(request)
        await response.write(b"\x89PNG")
        request.transport.close()
        return response


class Mute(Counting):
    """Saves files that say nothing of themselves."""

    def _note(self, id_, prompt, interrupted):
        super()._note(id_, prompt, interrupted)
        self.files = {name: b"text" for name in self.files}


class DamagedFiles(Counting):
    """Files are whole for HTTP only."""

    async def _view(self, request):
        return web.Response(body=self.files[request.query["filename"]][:-30])


class OthersFiles(Counting):
    """Whatever is drawn, the files are of another job."""

    async def _view(self, request):
        return web.Response(body=picture(graph(0.0, number=-1), 1000))
