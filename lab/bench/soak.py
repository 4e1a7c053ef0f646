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

from lab.harness import comfyui, graphs, server
from lab.miniature.exemplars import write_exemplars
from reversion_core.store.files import write_whole

FOLDER = comfyui.ROOT / "build" / "soak"
PROBE = comfyui.ROOT / "tests" / "server" / "reversion_probe"
SHORT = {"preset": "fast", "batch_size": 2, "accumulation": 1}
WARM_UP = 0.2  # the share of the jobs after which memory is first looked at


def train(running, number):
    graph = graphs.learn("exemplars", **SHORT, steps=2, training_seed=number)
    graph["save"] = graphs.node("ReVersionSaveRelation", relation=["train", 0], name="soak", overwrite=True)
    running.run(graph)
    return "done"


def cancel(running, number):
    graph = graphs.learn("exemplars", **SHORT, steps=500, training_seed=number, autosave=1)
    graph["save"] = graphs.node("ReVersionSaveRelation", relation=["train", 0], name="never", overwrite=True)
    with running.following(graph, "train") as (job, progress):
        next(value for value, _ in progress if value >= 1)
        running.post("interrupt")
        ended = server.failure(running.wait(job, 120))
    if ended != "interrupted":
        raise RuntimeError(ended)
    return "interrupted"


def draw(running, number):
    graph = graphs.learn("exemplars", **SHORT, steps=2, training_seed=0)
    graph["apply"] = graphs.node(
        "ReVersionApplyRelation", clip=["checkpoint", 1], relation=["train", 0], placeholder="<R>", strength=1.0
    )
    running.run(graph | graphs.draw("soak", "red circle <R> blue star", number, ("apply", 0), steps=4))
    return "done"


def refuse(running, number):
    bad = ({"initial_word": "hamburgerpainted"}, {"steps": -1}, {"preview_prompt": "none", "previews": 1})
    graph = graphs.learn("exemplars", **{**SHORT, **bad[number % len(bad)]})
    graph["save"] = graphs.node("ReVersionSaveRelation", relation=["train", 0], name="never", overwrite=True)
    try:
        running.run(graph)
    except server.PromptError:
        return "refused"
    raise RuntimeError("it was not refused")


def soak(running, jobs):
    probe = {
        "checkpoint": graphs.node("CheckpointLoaderSimple", ckpt_name=server.CHECKPOINT),
        "probe": graphs.node("ReVersionProbe", model=["checkpoint", 0], clip=["checkpoint", 1], vae=["checkpoint", 2]),
    }

    def weights():
        return running.run(probe)["probe"]["weights"]

    def memory():
        return psutil.Process(running.process.pid).memory_info().rss

    ended, before, early = collections.Counter(), weights(), None
    for number, job in zip(range(jobs), itertools.cycle((train, draw, cancel, refuse)), strict=False):
        ended[f"{job.__name__}: {job(running, number)}"] += 1
        if number == int(WARM_UP * jobs):
            early = memory()
    late = memory()
    same = weights() == before
    return {"jobs": jobs, "ended": dict(ended), "rss_growth": late / early - 1, "weights_same": same}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    jobs = parser.parse_args().jobs
    shutil.rmtree(FOLDER, ignore_errors=True)
    with server.Server(FOLDER / "host", more_nodes=[PROBE]) as running:
        write_exemplars(running.folder / "input" / "exemplars", "inside")
        report = soak(running, jobs)
    write_whole(FOLDER / "report.json", json.dumps(report, indent=1).encode())
    print(json.dumps(report, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
