"""One bad host beside a good one costs no row, and none that works is left out."""

import hostile
import pytest
from running import assert_each_once

from fleet import simulated

NUMBERS = [{"number": number} for number in range(12)]


@pytest.mark.parametrize(
    "bad",
    [
        hostile.ServerErrors,
        hostile.HangingUp,
        hostile.Garbage,
        hostile.Failing,
        hostile.FullDisk,
        hostile.LittleMemory,
        hostile.ShortFiles,
        hostile.DamagedFiles,
        hostile.OthersFiles,
    ],
)
def test_a_bad_host_is_left_out_after_a_few_jobs_and_costs_no_row(fleet, tmp_path, bad):
    host = bad()

    class Later(hostile.Counting):
        async def _draw(self, id_, client, prompt):
            while len({data["prompt_id"] for data in host.submitted}) < 3:
                await hostile.asyncio.sleep(0.02)

    with hostile.serving(host) as url, hostile.serving(Later()) as good:
        status, said, lines = fleet(simulated.graph(0.0), NUMBERS, "--host", url, "--host", good)
    assert status == 0, said
    assert {line["host"] for line in lines} == {good}
    assert_each_once(tmp_path / "out", 12)
    assert said.count(f"{url} gets no jobs for a while, since 3 in a row failed on it") == 1


def test_a_host_without_websocket_draws_all_the_same(fleet, tmp_path):
    with hostile.serving(hostile.NoWebsocket()) as url:
        status, said, _ = fleet(simulated.graph(0.0), NUMBERS[:2], "--host", url)
    assert status == 0, said
    assert_each_once(tmp_path / "out", 2)


@pytest.mark.parametrize("bad", [hostile.ServerErrors, hostile.FullDisk])
def test_a_bad_host_alone_ends_the_run_and_fails_no_row(fleet, bad):
    host = bad()
    with hostile.serving(host) as url:
        status, said, lines = fleet(simulated.graph(0.0), NUMBERS, "--host", url, "--rest", "0.1")
    assert status == 2 and not lines
    assert f"{url} is left out: every job fails on it" in said and "12 jobs are not done" in said
    assert len(host.submitted) == 5  # three in a row, and one after each of two rests


def test_a_job_that_breaks_every_host_is_given_up_and_the_others_are_done(fleet):
    class BreaksAtOne(hostile.Counting):
        async def _submit(self, request):
            data = await request.json()
            broken = data["prompt"]["1"]["inputs"]["number"] == 1
            return hostile.web.Response(status=500) if broken else await super()._submit(request)

    with hostile.serving(BreaksAtOne()) as one, hostile.serving(BreaksAtOne()) as two:
        status, said, lines = fleet(simulated.graph(0.0), NUMBERS[:5], "--host", one, "--host", two, "--rest", "0.1")
    assert status == 1
    assert [line["inputs"]["number"] for line in lines if line["error"]] == ["1"]
    assert "given up after 3 attempts; the last, on http://127.0.0.1" in said and "HTTP 500" in said


def test_a_job_that_two_hosts_refuse_fails_in_their_words(fleet):
    with hostile.serving(hostile.Failing()) as one, hostile.serving(hostile.Failing()) as two:
        status, said, lines = fleet(simulated.graph(0.0), NUMBERS[:6], "--host", one, "--host", two)
    assert status == 1
    assert [line["error"] for line in lines] == ["node 1 (Save): a broken pack"] * 6
