"""What a host tells while it works, over its websocket."""

import asyncio
import json
import time

import aiohttp

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0  # seconds before a broken connection is tried again, doubled each time
CONNECTING = 10.0  # seconds that a connection may take
LASTING = 10.0  # seconds after which a connection counts as a good one


class Messages:
    """The messages of one client. They only hasten matters: a host whose websocket fails is asked over HTTP alone, so
    nothing here raises, and a host that closes the connection at once is not asked for it in a loop."""

    def __init__(self, session: aiohttp.ClientSession, url: str, client: str):
        self.session, self.url, self.client = session, url, client
        self.socket = None
        self.pause, self.opened, self.not_before = FIRST_PAUSE, 0.0, 0.0

    async def connect(self) -> bool:
        """Whether there is a connection; tries to make one unless the last attempt is too recent."""
        if self.socket and not self.socket.closed:
            return True
        if time.monotonic() < self.not_before:
            return False
        try:
            connecting = self.session.ws_connect(f"{self.url}/ws", params={"clientId": self.client}, heartbeat=60)
            self.socket = await asyncio.wait_for(connecting, CONNECTING)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError):
            self._broken()
            return False
        self.opened = time.monotonic()
        return True

    async def next(self, seconds: float) -> dict | None:
        """The next message; None where none came in that time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if not await self.connect():
                await asyncio.sleep(min(left, max(self.not_before - time.monotonic(), 0.01)))
                continue
            try:
                received = await self.socket.receive(left)
            except asyncio.TimeoutError:
                return None
            if received.type is aiohttp.WSMsgType.TEXT:
                return _parsed(received.data)
            if received.type is not aiohttp.WSMsgType.BINARY:  # a preview
                await self.socket.close()
                self._broken()
        return None

    def _broken(self):
        now = time.monotonic()
        lasted = self.socket is not None and now - self.opened > LASTING
        self.pause = FIRST_PAUSE if lasted else min(2 * self.pause, LONGEST_PAUSE)
        self.not_before, self.socket = now + self.pause, None


def _parsed(text):
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(message, dict) or not isinstance(message.get("data"), dict):
        return {}
    return message
