"""A host that talks, drips or hangs up cannot hold up a job; clients and hosts in this process, over real sockets."""

import asyncio
import uuid

import hostile
import pytest
from running import GUARD, JOB, RUN, run_async

from fleet import client, messages, simulated
from fleet.errors import HostLost

PROMPT = str(uuid.uuid5(uuid.UUID(RUN), JOB))


def run_on(host, meanwhile=None):
    """What `Client.run` gives for one job on a host."""

    async def running(url):
        asking = client.Client(url, RUN)
        try:
            doing = asking.run(JOB, simulated.graph(0.0), False, 2**20)
            return (await asyncio.wait_for(asyncio.gather(doing, *([meanwhile()] if meanwhile else [])), GUARD))[0]
        finally:
            await asking.close()

    with hostile.serving(host) as url:
        return run_async(running(url))


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(client, "QUIET", 0.2)
    monkeypatch.setattr(client, "LONGEST_UNASKED", 0.4)


@pytest.mark.parametrize("about", [None, "another job", PROMPT], ids=["nobody", "another", "this"])
def test_a_host_that_always_talks_is_asked_for_the_job_in_between(about):
    host = hostile.Broadcasting()
    host.about = about

    async def release():
        await asyncio.sleep(0.5)
        host.released.set()

    _, files = run_on(host, meanwhile=release)
    assert len(files) == 1


def test_a_job_that_an_earlier_run_began_is_taken_up_though_the_host_talks():
    host = hostile.Broadcasting()

    async def begin(url):
        asking = client.Client(url, RUN)
        await asking._submit(PROMPT, simulated.graph(0.0))
        await asking.close()
        host.released.set()
        taking = client.Client(url, RUN)
        try:
            return await asyncio.wait_for(taking.run(JOB, simulated.graph(0.0), True, 2**20), GUARD)
        finally:
            await taking.close()

    with hostile.serving(host) as url:
        _, files = run_async(begin(url))
    assert len(files) == 1 and len(host.submitted) == 1


def test_an_answer_that_drips_has_a_limit(monkeypatch):
    monkeypatch.setattr(client, "ANSWER_SECONDS", 1.0)
    with pytest.raises(HostLost, match="no whole answer to /.* within 1 s"):
        run_on(hostile.Dripping())


def test_a_websocket_that_closes_at_once_is_not_asked_for_in_a_loop(monkeypatch):
    host = hostile.ClosingWebsocket()
    clock = [0.0]
    monkeypatch.setattr(messages, "time", type("Clock", (), {"monotonic": lambda: clock[0]}))

    async def listening(url):
        async with messages.aiohttp.ClientSession() as session:
            heard = messages.Messages(session, url, "me")
            for _ in range(600):
                await heard.connect()
                if heard.socket:
                    await heard.socket.receive()
                    heard._broken()
                clock[0] += 0.1

    with hostile.serving(host) as url:
        run_async(listening(url))
    assert 5 <= host.connected <= 9  # in the minute of the clock: after 0, 0.5, 1.5, 3.5, ... seconds


def test_a_redirect_of_the_websocket_is_not_followed():
    host, other = hostile.Redirecting(), hostile.Counting()
    with hostile.serving(other) as host.elsewhere:
        _, files = run_on(host)
    assert len(files) == 1 and other.connected == 0
