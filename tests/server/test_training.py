"""Loader -> trainer -> prompts through a real server."""

import shutil
import time

import pytest
import torch
from PIL import Image
from queueing import SHORT, ran_nodes, saved, vectors

from lab.harness import graphs, server
from reversion_core.store import relation


def test_learn_save_apply_and_draw_leave_the_model_as_it_was(host_server, exemplars, probe):
    plain = graphs.learn(exemplars) | graphs.draw("before", "red circle inside blue square", 5, steps=4)
    del plain["train"], plain["exemplars"]
    before = host_server.pixels(host_server.run(plain), "before")
    was = probe()

    graph = graphs.learn(exemplars, **SHORT) | saved("first") | {"apply": graphs.apply()}
    graph |= graphs.draw("with-r", "red circle <R> blue square", 5, clip=("apply", 0), steps=4)
    outputs = host_server.run(graph)
    assert outputs["save"]["text"] == ["Saved as embedding:first."]
    assert vectors(host_server, "first").shape == (1, 768)
    assert host_server.pixels(outputs, "with-r").shape == (64, 64, 3)

    assert probe()["weights"] == was["weights"]
    plain |= graphs.draw("after", "red circle inside blue square", 5, steps=4)
    assert (host_server.pixels(host_server.run(plain), "after") == before).all()


@pytest.mark.parametrize("suffix", relation.SUFFIXES)
def test_native_embedding_draws_the_same_picture(host_server, exemplars, suffix):
    name = f"native-{suffix[1:]}"
    graph = graphs.learn(exemplars, **SHORT) | saved(name, format=suffix[1:]) | {"apply": graphs.apply()}
    graph |= graphs.draw("placeholder", "red circle <R> blue square", 7, clip=("apply", 0), steps=4)
    ours = host_server.run(graph)
    theirs = {"checkpoint": graph["checkpoint"]}
    theirs |= graphs.draw("embedding", f"red circle embedding:{name} blue square", 7, steps=4)
    native = host_server.run(theirs)
    assert (host_server.pixels(ours, "placeholder") == host_server.pixels(native, "embedding")).all()


def test_training_touches_no_global_random_state(host_server, exemplars, probe):
    was = probe()
    host_server.run(graphs.learn(exemplars, **SHORT, training_seed=11) | saved("quiet"))
    assert probe() == was


def test_second_queue_does_not_train_again_and_a_new_seed_does(host_server, exemplars):
    graph = graphs.learn(exemplars, **SHORT, training_seed=21)
    host_server.run(graph | saved("once"))
    started = time.monotonic()
    ran, _ = ran_nodes(host_server, graph | saved("twice"))
    assert "train" not in ran and time.monotonic() - started < 10
    assert torch.equal(vectors(host_server, "once"), vectors(host_server, "twice"))
    # A host that dropped the node from its cache finds the finished run on disk.
    host_server.post("free", {"free_memory": True, "unload_models": True})
    time.sleep(1.5)
    logged = len(host_server.log.read_text())
    again, _ = ran_nodes(host_server, graph | saved("thrice"))
    assert "train" in again
    assert "learned before; taken from" in host_server.log.read_text()[logged:]
    assert torch.equal(vectors(host_server, "once"), vectors(host_server, "thrice"))
    host_server.run(graphs.learn(exemplars, **SHORT, training_seed=22) | saved("other"))
    assert not torch.equal(vectors(host_server, "once"), vectors(host_server, "other"))


def test_cancel_stops_within_a_step_and_keeps_what_was_learned(host_server, exemplars, probe):
    was = probe()
    runs = host_server.folder / "output" / "reversion" / "runs"
    before = set(runs.glob("*"))
    graph = graphs.learn(exemplars, preset="fast", steps=500, training_seed=31) | saved("never")
    with host_server.following(graph, "train") as (job, progress):
        assert next(progress) == (0, 500)
        step = next(value for value, _ in progress if value >= 2)
        host_server.post("interrupt")
        entry = host_server.wait(job, 30)
    assert server.failure(entry) == "interrupted"
    assert probe() == was
    (run,) = set(runs.glob("*")) - before
    partial = relation.load(run / "relation.safetensors")
    assert int(partial.metadata["reversion.steps_done"]) in (step, step + 1)

    embeddings = host_server.folder / "models" / "embeddings"
    shutil.copy(run / "relation.safetensors", embeddings / "partial.safetensors")
    graph = {
        "checkpoint": graphs.node("CheckpointLoaderSimple", ckpt_name=server.CHECKPOINT),
        "load": graphs.node("ReVersionLoadRelation", relation="partial.safetensors"),
        "apply": graphs.apply(("load", 0)),
    } | graphs.draw("partial", "red circle <R> blue square", 7, clip=("apply", 0), steps=2)
    assert host_server.pixels(host_server.run(graph), "partial").shape == (64, 64, 3)
    assert probe()["weights"] == was["weights"]


def test_unplugged_steering_and_focal_sampling_mean_the_published_values(host_server, exemplars):
    graph = graphs.learn(exemplars, **SHORT, training_seed=41)
    host_server.run(graph | saved("unplugged"))
    from reversion_core.method.words import PREPOSITIONS

    graph["steering"] = graphs.node(
        "ReVersionSteering",
        weight=0.01,
        temperature=0.07,
        positives=4,
        basis=" ".join(PREPOSITIONS),
        extra_negatives="",
    )
    graph["focal"] = graphs.node("ReVersionFocalSampling", alpha=0.5, lowest_timestep=0, highest_timestep=999)
    graph["train"]["inputs"] |= {"steering": ["steering", 0], "focal": ["focal", 0]}
    host_server.run(graph | saved("plugged"))
    assert torch.equal(vectors(host_server, "unplugged"), vectors(host_server, "plugged"))
    graph["steering"]["inputs"]["weight"] = 0.0
    host_server.run(graph | saved("unsteered"))
    assert not torch.equal(vectors(host_server, "plugged"), vectors(host_server, "unsteered"))


def test_exemplars_from_the_host_s_own_image_nodes(host_server, exemplars):
    folder = host_server.folder / "input"
    for i in range(2):
        Image.open(folder / exemplars / f"{i}.png").resize((96 + 32 * i, 64)).save(folder / f"single-{i}.png")
    graph = graphs.learn(exemplars, **SHORT)
    graph |= {f"image-{i}": graphs.node("LoadImage", image=f"single-{i}.png") for i in range(2)}
    graph["batch"] = graphs.node("ImageBatch", image1=["image-0", 0], image2=["image-1", 0])
    captions = "red circle {} blue square\nred star {} pink heart"
    graph["exemplars"] = graphs.node("ReVersionExemplars", images=["batch", 0], captions=captions, size=64, fit="pad")
    host_server.run(graph | saved("by-hand"))
    assert vectors(host_server, "by-hand").isfinite().all()


def test_loss_map_and_report_feed_the_host_s_nodes(host_server, exemplars):
    graph = graphs.learn(exemplars, **SHORT)
    graph["plot"] = graphs.node("LossGraphNode", loss=["train", 1], filename_prefix="loss")
    graph["report"] = graphs.node("SaveImage", images=["train", 2], filename_prefix="report")
    outputs = host_server.run(graph)
    assert host_server.pixels(outputs, "report").std() > 0


@pytest.mark.parametrize("count", [1, 3])
def test_several_vectors_are_several_tokens(host_server, exemplars, count):
    host_server.run(graphs.learn(exemplars, **SHORT, vectors=count) | saved(f"vectors-{count}"))
    assert vectors(host_server, f"vectors-{count}").shape == (count, 768)
