"""A server that is killed in the middle of a training, which then goes on in a new one."""

import shutil

import torch
from PIL import Image
from queueing import saved, vectors

from lab.harness import graphs, server

TRAIN = {"preset": "fast", "steps": 12, "batch_size": 1, "accumulation": 1, "autosave": 1}


def test_a_run_goes_on_after_kill_9(tmp_path, host_server, exemplars):
    folder = server.prepare(tmp_path / "host")
    shutil.copytree(host_server.folder / "input" / exemplars, folder / "input" / exemplars)
    graph = graphs.learn(exemplars, **TRAIN) | saved("resumed")
    with server.Server(folder) as first, first.following(graph, "train") as (_, progress):
        next(value for value, _ in progress if value >= 3)
        first.process.kill()
        first.process.wait()
    with server.Server(folder) as second:
        second.run(graph)
        assert "resumed after step" in second.log.read_text()
        resumed = vectors(second, "resumed")
    host_server.run(graphs.learn(exemplars, **TRAIN) | saved("unbroken"))
    assert torch.equal(resumed, vectors(host_server, "unbroken"))


def test_a_cancelled_run_goes_on_in_the_same_server(host_server, exemplars):
    graph = graphs.learn(exemplars, **TRAIN, training_seed=3) | saved("after-cancel")
    with host_server.following(graph, "train") as (job, progress):
        next(value for value, _ in progress if value >= 3)
        host_server.post("interrupt")
        host_server.wait(job, 60)
    started = len(host_server.log.read_text())
    host_server.run(graph)
    assert "resumed after step" in host_server.log.read_text()[started:]
    shutil.rmtree(host_server.folder / "output" / "reversion" / "runs")
    host_server.run(graphs.learn(exemplars, **TRAIN, training_seed=3, resume=False) | saved("whole"))
    assert torch.equal(vectors(host_server, "after-cancel"), vectors(host_server, "whole"))


def test_previews_change_with_the_relation(host_server, exemplars):
    given = {**TRAIN, "steps": 4, "learning_rate": 0.1, "previews": 2}
    graph = graphs.learn(exemplars, **given)
    graph["samples"] = graphs.node("SaveImage", images=["train", 3], filename_prefix="samples")
    first, last = host_server.run(graph)["samples"]["images"]
    assert host_server.picture(first).read_bytes() != host_server.picture(last).read_bytes()


def test_previews_are_kept_with_what_was_learned(host_server, exemplars):
    given = {**TRAIN, "steps": 4, "learning_rate": 0.1, "previews": 2, "training_seed": 9}
    prompt = "red circle <R> blue star"

    def samples(**changed):
        graph = graphs.learn(exemplars, **{**given, "preview_prompt": prompt, **changed})
        graph["samples"] = graphs.node("SaveImage", images=["train", 3], filename_prefix="kept")
        return [
            Image.open(host_server.picture(image)).tobytes() for image in host_server.run(graph)["samples"]["images"]
        ]

    learned = samples()
    # Another node setting makes the host run the trainer again, which finds the finished run.
    assert samples(autosave=3) == learned and len(learned) == 2
    # Another prompt is drawn with what was learned.
    (other,) = samples(preview_prompt="green square <R> blue star")
    assert other not in learned
