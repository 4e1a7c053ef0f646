"""Simulated hosts in network namespaces with addresses of their own, behind links that are fast, slow or lossy.

For root on Linux with `ip` and `tc`; prints a JSON object for each set of links.
"""

import contextlib
import json
import re
import subprocess
import sys

from . import driver, measure

JOBS, SECONDS = 60, 0.2  # of each job, whose picture has 100 kB
# What `tc` puts on both ends of a link. The lossy one drops what its queue of 8 kB cannot hold.
LINKS = {
    "fast": None,
    "slow": "tbf rate 2mbit burst 16kb latency 400ms",
    "lossy": "tbf rate 4mbit burst 4kb limit 8kb",
}


def _do(command):
    ended = subprocess.run(command.split(), capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"{command}: {ended.stderr.strip()}")
    return ended.stdout


@contextlib.contextmanager
def host_behind(number: int, link: str):
    """The URL of a host in a namespace of its own, while it runs."""
    space, ours, theirs = f"fleet{number}", f"fleet{number}a", f"fleet{number}b"
    here, there = f"10.77.{number}.1", f"10.77.{number}.2"
    inside = f"ip netns exec {space}"
    _do(f"ip netns add {space}")
    try:
        _do(f"ip link add {ours} type veth peer name {theirs}")
        _do(f"ip link set {theirs} netns {space}")
        _do(f"ip addr add {here}/24 dev {ours}")
        _do(f"ip link set {ours} up")
        _do(f"{inside} ip addr add {there}/24 dev {theirs}")
        _do(f"{inside} ip link set {theirs} up")
        if LINKS[link]:
            _do(f"tc qdisc add dev {ours} root {LINKS[link]}")
            _do(f"{inside} tc qdisc add dev {theirs} root {LINKS[link]}")
        command = f"{inside} {sys.executable} -m fleet.simulated --address {there}"
        process = subprocess.Popen(command.split(), stdout=subprocess.PIPE, cwd=measure.ROOT)
        try:
            yield json.loads(process.stdout.readline())[0]
        finally:
            process.kill()
            process.wait()
            _do(f"ip link del {ours}")
    finally:
        _do(f"ip netns del {space}")


def packets_lost(number: int) -> int:
    """What the far end of a link has dropped."""
    said = _do(f"ip netns exec fleet{number} tc -s qdisc show dev fleet{number}b")
    return sum(map(int, re.findall(r"dropped (\d+)", said)))


def measured(links: list[str]) -> dict:
    """Run the jobs over hosts behind these links."""
    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(host_behind(number, link)) for number, link in enumerate(links)]
        wall, stats = measure.timed(urls, [{"seconds": SECONDS, "number": number} for number in range(JOBS)])
        lost = [packets_lost(number) for number in range(len(links))]
    return {"links": links, "wall_s": round(wall, 1), "jobs": [host["jobs"] for host in stats], "packets_lost": lost}


if __name__ == "__main__":
    driver.connect()
    for links in (["fast"] * 3, ["fast", "slow", "lossy"]):
        print(json.dumps(measured(links)))  # noqa: T201
