"""The hosts as Ray actors, and jobs given to whichever is idle: as many are on their way as there are hosts."""

import contextlib
import os
from collections import Counter, deque

import ray
from ray.exceptions import ActorUnavailableError, RayError

from .actor import Host
from .errors import FleetError, HostError, HostLost

DEATHS = 3  # of hosts under the same job, after which the job is taken to be the reason
RESTARTS = 3  # of an actor whose process died, by Ray
OBJECT_STORE = 512 * 2**20


def connect(address=None):
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


def actor(gpus=0, **given):
    """An actor of a host; gpus: whole GPUs that Ray sets aside for it and makes visible to what it starts."""
    options = {"num_cpus": 0, "num_gpus": gpus, "max_restarts": RESTARTS, "max_task_retries": RESTARTS}
    return ray.remote(Host).options(scheduling_strategy="SPREAD", **options).remote(**given)


def stop(hosts):
    """Cancel what actors are at, end what they started, and give their places back."""
    if hosts:
        ray.wait([host.stop.remote() for host in hosts], num_returns=len(hosts), timeout=20)
    for host in hosts:
        ray.kill(host)


def reason(error):
    """The message of what a call to an actor raised, without Ray's traceback."""
    return str(getattr(error, "cause", None) or error)


def first_schemas(hosts, classes, say):
    """The schemas of `classes` from the first host that has them all."""
    calls = {host.schemas.remote(classes): name for name, host in hosts.items()}
    while calls:
        (call,), _ = ray.wait(list(calls))
        name = calls.pop(call)
        try:
            schemas = ray.get(call)
        except (HostError, RayError) as error:
            say(f"{name}: {reason(error)}")
            continue
        if missing := [name for name in classes if name not in schemas]:
            say(f"{name}: it lacks the nodes {', '.join(missing)}; install their pack there")
        else:
            return schemas
    raise FleetError("no host can run this workflow")


class Run:
    """hosts: name -> actor; jobs: a `jobs.Jobs`; todo: indices into it; results: where they land; bar: a tqdm."""

    def __init__(self, hosts, jobs, todo, results, bar):
        self.hosts, self.jobs, self.results, self.bar = hosts, jobs, results, bar
        self.todo = deque(todo)
        self.classes = sorted({node["class_type"] for node in jobs.workflow.graph.values()})
        self.files = jobs.model_files()
        self.calls, self.idle, self.deaths = {}, deque(), Counter()
        self.failed = 0

    def finish(self):
        """Run every job; returns how many failed. Raises FleetError where no host is left."""
        for name in self.hosts:
            self._join(name)
        while self.todo or any(job is not None for _, job in self.calls.values()):
            while self.idle and self.todo:
                self._give(self.idle.popleft(), self.todo.popleft())
            if not self.calls:
                raise FleetError(f"no host is left; {len(self.todo)} jobs are not done. The same command goes on")
            finished, _ = ray.wait(list(self.calls), timeout=1)
            for call in finished:
                self._take(call)
            if not finished:
                self._show_progress()
        return self.failed

    def _join(self, name):
        self.calls[self.hosts[name].join.remote(self.classes, self.files)] = name, None

    def _give(self, name, job):
        known = self.results.resumed or self.deaths[job] > 0  # a host may have it already
        call = self.hosts[name].run.remote(self.jobs.ids[job], self.jobs.graph(job), known)
        self.calls[call] = name, job

    def _take(self, call):
        name, job = self.calls.pop(call)
        try:
            result = ray.get(call)
        except (HostLost, ActorUnavailableError) as error:
            self.bar.write(f"{name} was lost: {reason(error)}")
            self._again(name, job, error)
            self._join(name)
        except (HostError, RayError) as error:
            self.bar.write(f"{name} is left out: {reason(error)}")
            self._again(name, job, error)
        else:
            self.idle.append(name)
            if job is not None:
                self._land(name, job, result)

    def _again(self, name, job, error):
        if job is None:
            return
        self.deaths[job] += 1
        if self.deaths[job] < DEATHS:
            self.todo.appendleft(job)
        else:
            why = f"{DEATHS} hosts were lost while they were at it: {reason(error)}"
            self._land(name, job, {"seconds": 0.0, "files": [], "texts": {}, "error": why})

    def _land(self, name, job, result):
        self.results.land(self.jobs.ids[job], self.jobs.rows[job], name, result)
        if result["error"]:
            self.failed += 1
            self.bar.write(f"row {job + 1} failed on {name}: {result['error']}")
        self.bar.update()

    def _show_progress(self):
        busy = [name for name, job in self.calls.values() if job is not None]
        asked = [self.hosts[name].progress.remote() for name in busy[:3]]
        said = []
        with contextlib.suppress(RayError):
            told, _ = ray.wait(asked, num_returns=len(asked), timeout=0.5) if asked else ([], None)
            said = [text for text in ray.get(told) if text]
        self.bar.set_postfix_str(", ".join([f"{len(busy)} of {len(self.hosts)} hosts", *said]))
