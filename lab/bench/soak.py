"""`python -m lab.bench.soak`: many mixed jobs on one server, and what they leave behind.

Trainings, cancelled trainings, pictures and bad input in turns. Writes build/soak/report.json: how each ended, the
memory of the server early and at the end, and whether its weights are still the same, bit for bit.
"""

import argparse
import collections
import itertools
import json
import shutil

import psutil

from lab.harness import base_directory, comfyui, graphs, server
from lab.miniature.exemplars import write_exemplars
from reversion_core.store.files import write_whole

REPORT = comfyui.ROOT / "build" / "soak" / "report.json"
SHORT = {"preset": "fast", "batch_size": 2, "accumulation": 1}
WARM_UP = 0.2  # the share of the jobs after which the memory is first read


def train(running: server.Server, number: int) -> str:
    running.run(
        graphs.learn("exemplars", **SHORT, steps=2, training_seed=number) | {"save": graphs.save("soak")},
    )
    return "done"


def cancel(running: server.Server, number: int) -> str:
    graph = graphs.learn("exemplars", **SHORT, steps=500, training_seed=number, autosave=1)
    with running.following(graph | {"save": graphs.save("never")}, "train") as (job, progress):
        next(value for value, _ in progress if value >= 1)
        running.post("interrupt")
        ended = server.failure(running.wait(job, 120))
    if ended != "interrupted":
        raise RuntimeError(ended)
    return "interrupted"


def draw(running: server.Server, number: int) -> str:
    graph = graphs.learn("exemplars", **SHORT, steps=2, training_seed=0) | {"apply": graphs.apply()}
    running.run(graph | graphs.draw("soak", "red circle <R> blue star", number, ("apply", 0), steps=4))
    return "done"


def refuse(running: server.Server, number: int) -> str:
    bad = ({"initial_word": "hamburgerpainted"}, {"steps": -1}, {"preview_prompt": "none", "previews": 1})
    graph = graphs.learn("exemplars", **{**SHORT, **bad[number % len(bad)]})
    try:
        running.run(graph | {"save": graphs.save("never")})
    except server.PromptError:
        return "refused"
    raise RuntimeError("it was not refused")


def soak(running: server.Server, jobs: int) -> dict:
    """Run so many jobs; returns how they ended and what they left behind."""

    def weights() -> list[str]:
        return running.run(graphs.probe())["probe"]["weights"]

    def memory() -> int:
        return psutil.Process(running.process.pid).memory_info().rss

    ended, before, early = collections.Counter(), weights(), None
    for number, job in zip(range(jobs), itertools.cycle((train, draw, cancel, refuse)), strict=False):
        ended[f"{job.__name__}: {job(running, number)}"] += 1
        if number == int(WARM_UP * jobs):
            early = memory()
    late = memory()
    same = weights() == before
    return {"jobs": jobs, "ended": dict(ended), "rss_growth": late / early - 1, "weights_same": same}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    jobs = parser.parse_args().jobs
    base = base_directory.of("soak")
    shutil.rmtree(base, ignore_errors=True)
    with server.Server(base, more_nodes=[graphs.PROBE]) as running:
        write_exemplars(running.folder / "input" / "exemplars", "inside")
        report = soak(running, jobs)
    write_whole(REPORT, json.dumps(report, indent=1).encode())
    print(json.dumps(report, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
