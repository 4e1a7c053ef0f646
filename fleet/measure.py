"""What the fleet itself costs, on simulated hosts with real job times: build/fleet/report.json."""

import argparse
import contextlib
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import ray
from tqdm import tqdm

from . import driver, simulated
from .jobs import Jobs
from .results import Results
from .workflow import from_api

ROOT = Path(__file__).resolve().parent.parent
SHORTEST, LONGEST = 0.5, 2.0  # seconds of a job


@contextlib.contextmanager
def simulated_hosts(count: int, port: int = 0):
    """Addresses of hosts in a process of their own; port: of the first."""
    command = [sys.executable, "-m", "fleet.simulated", "--count", str(count), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def timed(urls: list[str], rows: list[dict]) -> tuple[float, list[dict]]:
    """Run rows on simulated hosts.

    Returns the seconds from when all hosts are ready to when the last result has landed, and what each host says of
    itself: its jobs, and the seconds between the end of one and the next.
    """
    jobs = Jobs(from_api(simulated.graph(0.0)), rows)
    with tempfile.TemporaryDirectory() as folder, Results(folder) as results:
        hosts = {url: driver.actor(run=results.run, patience=60, limit=2**24, url=url) for url in urls}
        ray.get([host.join.remote([simulated.NODE], []) for host in hosts.values()])
        with tqdm(total=len(rows), unit="job") as bar:
            began = time.monotonic()
            failed = driver.Run(hosts, jobs, range(len(rows)), results, bar).finish()
            wall = time.monotonic() - began
        landed = len(results.done()[0])
        stats = [json.load(urllib.request.urlopen(f"{url}/system_stats")) for url in urls]
        driver.stop(list(hosts.values()))
    if failed or landed != len(rows):
        raise RuntimeError(f"{failed} jobs failed and {landed} of {len(rows)} landed")
    return wall, stats


def overhead(stats: list[dict]) -> float:
    """The mean milliseconds that a host waits between the end of a job and the next."""
    return round(sum(s["idle_s"] for s in stats) / sum(s["jobs"] - 1 for s in stats) * 1000, 2)


def efficiency(count: int, jobs_each: int) -> dict:
    """Ideal time, when no host is ever idle, over the time that it took."""
    rng = random.Random(count)
    times = [round(rng.uniform(SHORTEST, LONGEST), 3) for _ in range(count * jobs_each)]
    with simulated_hosts(count) as urls:
        wall, stats = timed(urls, [{"seconds": seconds, "number": i} for i, seconds in enumerate(times)])
    ideal = sum(times) / count
    return {
        "hosts": count,
        "jobs": len(times),
        "ideal_s": round(ideal, 2),
        "wall_s": round(wall, 2),
        "efficiency": round(ideal / wall, 4),
        "overhead_ms": overhead(stats),
    }


def many(count: int, hosts: int = 4, seconds: float = 0.02) -> dict:
    """Short jobs, and the most memory that this process ever had."""
    with simulated_hosts(hosts) as urls:
        wall, stats = timed(urls, [{"seconds": seconds, "number": i} for i in range(count)])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "jobs": count,
        "hosts": hosts,
        "wall_s": round(wall, 2),
        "overhead_ms": overhead(stats),
        "peak_rss_mb": round(peak, 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--jobs", type=int, default=24, help="a host")
    parser.add_argument("--many", type=int, nargs="+", default=[1000, 10_000])
    arguments = parser.parse_args()
    driver.connect()
    report = {
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "ray": ray.__version__,
        "job_s": [SHORTEST, LONGEST],
        "picture_bytes": simulated.graph(0)["1"]["inputs"]["size"],
    }
    report["many"] = [many(count) for count in sorted(arguments.many)]
    report["efficiency"] = [efficiency(count, arguments.jobs) for count in arguments.hosts]
    path = ROOT / "build" / "fleet" / "report.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1))
    print(json.dumps(report, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
