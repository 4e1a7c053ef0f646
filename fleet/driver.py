"""The hosts as Ray actors, and jobs given to whichever is idle: as many are on their way as there are hosts."""

import contextlib
import os
import sys
import time
from collections.abc import Iterable

import ray
from ray.exceptions import ActorUnavailableError, RayError

from .actor import Host, Outcome
from .errors import FleetError, HostError, HostFault, HostLost
from .jobs import Jobs
from .results import Results
from .schedule import ATTEMPTS, IN_A_ROW, Schedule
from .terminal import printable, say

RESTARTS = 3  # of an actor whose process died, by Ray
OBJECT_STORE = 512 * 2**20


def connect(address: str | None = None) -> int:
    """Start Ray here, or join the cluster at `address`; returns how many GPUs there are. Raises FleetError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_maximum_startup_concurrency", "64")  # else it warns of many actors
    if not ray.is_initialized():
        package = os.path.dirname(os.path.abspath(__file__))
        there = {"address": address, "runtime_env": {"py_modules": [package]}}
        here = {
            "address": "local",
            "num_cpus": 1,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE,
            "runtime_env": {"env_vars": {"PYTHONPATH": os.path.dirname(package)}},
        }
        try:
            ray.init(log_to_driver=False, logging_level="ERROR", **(there if address else here))
        except (OSError, RuntimeError, ValueError, RayError) as error:
            raise FleetError(f"Ray at {address or 'this machine'}: {error}") from error
    return int(ray.cluster_resources().get("GPU", 0))


def actor(gpus: int = 0, **given) -> ray.actor.ActorHandle:
    """An actor of a host, given what `Host` takes.

    gpus: whole GPUs that Ray sets aside for it and makes visible to what it starts.
    """
    options = {"num_cpus": 0, "num_gpus": gpus, "max_restarts": RESTARTS, "max_task_retries": RESTARTS}
    return ray.remote(Host).options(scheduling_strategy="SPREAD", **options).remote(**given)


def stop(hosts: list) -> None:
    """Cancel what actors are at, end what they started, and give their places back."""
    if hosts:
        ray.wait([host.stop.remote() for host in hosts], num_returns=len(hosts), timeout=20)
    for host in hosts:
        ray.kill(host)


def reason(error: Exception) -> str:
    """The message of what a call to an actor raised, without Ray's traceback."""
    return str(getattr(error, "cause", None) or error)


def first_schemas(hosts: dict, classes: list) -> dict:
    """The schemas of `classes` from the first host that has them all."""
    calls = {host.schemas.remote(classes): name for name, host in hosts.items()}
    while calls:
        (call,), _ = ray.wait(list(calls))
        name = calls.pop(call)
        try:
            schemas = ray.get(call)
        except (HostError, HostLost, RayError) as error:
            say(f"{name}: {reason(error)}")
            continue
        if missing := [name for name in classes if name not in schemas]:
            say(f"{name}: it lacks the nodes {', '.join(missing)}; install their pack there")
        else:
            return schemas
    raise FleetError("no host can run this workflow")


class Run:
    """hosts: name -> actor; jobs: a `jobs.Jobs`; todo: indices into it; results: where they land; bar: a tqdm; pause:
    seconds that a host rests on which jobs fail."""

    def __init__(self, hosts: dict, jobs: Jobs, todo: Iterable[int], results: Results, bar, pause: float = 30.0):
        self.hosts, self.jobs, self.results, self.bar, self.pause = hosts, jobs, results, bar, pause
        self.schedule = Schedule(hosts, todo)
        self.classes = sorted({node["class_type"] for node in jobs.workflow.graph.values()})
        self.files = jobs.model_files()
        self.calls = {}  # call of Ray's -> (name, job), the job None while the host joins
        self.idle, self.resting = set(), {}  # names, and name -> when it is tried again
        self.given, self.failed = set(), 0

    def finish(self) -> int:
        """Run every job; returns how many failed. Raises FleetError where no host is left."""
        for name in self.hosts:
            self._join(name)
        while self.schedule.waiting or any(job is not None for _, job in self.calls.values()):
            self._wake()
            self._give()
            if self.calls:
                finished, _ = ray.wait(list(self.calls), timeout=1)
                for call in finished:
                    self._take(call)
                if not finished:
                    self._show_progress()
            elif self.resting:
                time.sleep(min(1.0, max(0.0, min(self.resting.values()) - time.monotonic())))
            else:
                left = len(self.schedule.waiting)
                raise FleetError(f"no host is left; {left} jobs are not done. The same command goes on")
        return self.failed

    def _join(self, name):
        self.calls[self.hosts[name].join.remote(self.classes, self.files)] = name, None

    def _wake(self):
        now = time.monotonic()
        for name in [name for name, until in self.resting.items() if now >= until or self.schedule.cleared(name)]:
            del self.resting[name]
            self.schedule.back(name)
            self._join(name)

    def _give(self):
        for name in list(self.idle):
            if (job := self.schedule.next_for(name)) is not None:
                self.idle.remove(name)
                known = self.results.resumed or job in self.given  # the host may have it already
                self.given.add(job)
                call = self.hosts[name].run.remote(self.jobs.ids[job], self.jobs.graph(job), known)
                self.calls[call] = name, job

    def _take(self, call):
        name, job = self.calls.pop(call)
        try:
            outcome = ray.get(call)
        except (HostLost, ActorUnavailableError) as error:
            self._failed(name, job, reason(error), lost=not isinstance(error, HostFault))
        except (HostError, RayError) as error:
            self._leave(name, reason(error))
            if job is not None:
                self._judge(name, job, reason(error), refused=False)
        else:
            if job is None:
                self.idle.add(name)
            elif outcome.error is None:
                self.schedule.succeeded(name, job)
                self._land(name, job, outcome)
                self.idle.add(name)
            else:
                self._judge(name, job, outcome.error, refused=True, outcome=outcome)
                if not self._rest(name, outcome.error):
                    self.idle.add(name)

    def _failed(self, name, job, why, lost):
        """A host is gone, or at fault; it is asked to join again, at once or after a rest."""
        if lost or not self.schedule.failed_since_success[name]:
            say(f"{name} {'was lost' if lost else 'failed'}: {why}")
        if job is not None:
            self._judge(name, job, why, refused=False)
        if not self._rest(name, why):
            self._join(name)

    def _judge(self, name, job, why, refused, outcome=None):
        """Land a job that has failed for good."""
        if self.schedule.failed(name, job, refused):
            outcome = outcome or Outcome(error=f"given up after {ATTEMPTS} attempts; the last, on {name}: {why}")
            self._land(name, job, outcome)

    def _rest(self, name, why):
        """Whether a host has failed so often that it gets no jobs for now, or none any more."""
        if not self.schedule.rest(name):
            return False
        if self.schedule.hopeless(name):
            self._leave(name, f"every job fails on it, the last: {why}")
            return True
        self.resting[name] = time.monotonic() + self.pause
        if self.schedule.rests[name] == 1:
            say(f"{name} gets no jobs for a while, since {IN_A_ROW} in a row failed on it, the last: {why}")
        return True

    def _leave(self, name, why):
        self.schedule.leave(name)
        say(f"{name} is left out: {why}")

    def _land(self, name, job, outcome):
        self.results.land(self.jobs.ids[job], self.jobs.rows[job], name, outcome)
        if outcome.error is not None:
            self.failed += 1
            say(f"row {job + 1} failed on {name}: {outcome.error}")
        self.bar.update()

    def _show_progress(self):
        busy = [name for name, job in self.calls.values() if job is not None]
        asked = [self.hosts[name].progress.remote() for name in busy[:3]]
        said = []
        with contextlib.suppress(RayError):
            told, _ = ray.wait(asked, num_returns=len(asked), timeout=0.5) if asked else ([], None)
            said = [text for text in ray.get(told) if text]
        shown = ", ".join([f"{len(busy)} of {len(self.hosts)} hosts", *said])
        self.bar.set_postfix_str(printable(shown, sys.stderr.encoding).replace("\n", " "))
