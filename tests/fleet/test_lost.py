"""Hosts and actors that are lost, on simulated hosts."""

import os
import signal
import threading

import psutil
from running import assert_each_once, wait_for_lines

from fleet import measure, simulated
from lab.harness import server


def numbers(count):
    return [{"number": number} for number in range(count)]


def meanwhile(work):
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_the_others_do_the_jobs_of_a_host_that_is_gone(fleet, simulated_host, tmp_path):
    port, out = server.free_port(), tmp_path / "out"

    def short_lived():
        with measure.simulated_hosts(1, port):
            wait_for_lines(out, 4)

    thread = meanwhile(short_lived)
    gone = f"http://127.0.0.1:{port}"
    status, said, lines = fleet(
        simulated.graph(0.3), numbers(12), "--host", simulated_host, "--host", gone, "--patience", "300", out=out
    )
    thread.join()
    assert status == 0 and f"{gone} was lost" in said
    assert {line["host"] for line in lines} == {gone, simulated_host}
    assert_each_once(out, 12)


def test_a_host_that_comes_back_goes_on(fleet, tmp_path):
    port, out = server.free_port(), tmp_path / "out"

    def twice():
        with measure.simulated_hosts(1, port):
            wait_for_lines(out, 2)
        with measure.simulated_hosts(1, port):
            wait_for_lines(out, 6)

    thread = meanwhile(twice)
    status, said, _ = fleet(simulated.graph(0.3), numbers(6), "--host", f"http://127.0.0.1:{port}", out=out)
    thread.join()
    assert status == 0 and "was lost" in said
    assert_each_once(out, 6)


def test_a_host_that_stays_away_ends_the_run_and_the_same_command_goes_on(fleet, tmp_path):
    port, out = server.free_port(), tmp_path / "out"
    options = ("--host", f"http://127.0.0.1:{port}", "--patience", "1")

    def short_lived():
        with measure.simulated_hosts(1, port):
            wait_for_lines(out, 2)

    thread = meanwhile(short_lived)
    status, said, lines = fleet(simulated.graph(0.3), numbers(5), *options[:2], "--patience", "5", out=out)
    thread.join()
    assert status == 2 and "no answer for 5 s" in said and f"{5 - len(lines)} jobs are not done" in said
    with measure.simulated_hosts(1, port):
        status, _, _ = fleet(simulated.graph(0.3), numbers(5), *options, out=out)
    assert status == 0
    assert_each_once(out, 5)


def test_ray_restarts_the_actor_of_a_host(fleet, simulated_host, tmp_path):
    out = tmp_path / "out"

    def kill():
        wait_for_lines(out, 2)
        actors = [p for p in psutil.Process().children(recursive=True) if p.name().startswith("ray::Host")]
        os.kill(max(actors, key=psutil.Process.create_time).pid, signal.SIGKILL)

    thread = meanwhile(kill)
    status, said, _ = fleet(simulated.graph(0.5), numbers(6), "--host", simulated_host, out=out)
    thread.join()
    assert status == 0 and "its worker was restarted" in said
    assert_each_once(out, 6)


def test_equal_rows_are_one_job_and_a_long_one_shows_its_progress(fleet, simulated_host):
    status, said, lines = fleet(simulated.graph(0.0), [{"seconds": 2.5}] * 3, "--host", simulated_host)
    assert status == 0 and len(lines) == 1
    assert "3 rows, 1 jobs" in said and "SimulatedPicture 0/1" in said and "1/1" in said
