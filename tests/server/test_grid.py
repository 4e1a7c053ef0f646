"""A grid of prompts in one queue, through the real server."""

import csv
import json

import numpy as np
import psutil
import pytest
from PIL import Image
from queueing import SHORT, ran_nodes

from lab.harness import graphs, server, tiny_clip
from lab.harness.server import PromptError
from reversion_core.prompts import grid as prompts


def prompts_node(**given):
    inputs = {
        "template": "{subject} <R> {object}",
        "subjects": "cat",
        "objects": "stone",
        "preset": "my own lists",
        "limit": 0,
        "order_seed": 0,
    }
    return graphs.node("ReVersionPrompts", **{**inputs, **given})


def grid_graph(exemplars, **given):
    """Learn, then draw every prompt of a grid and save it under its name."""
    graph = graphs.learn(exemplars, **SHORT, training_seed=61) | {
        "apply": graphs.apply(),
        "prompts": prompts_node(**given),
    }
    graph |= graphs.draw("grid", ["prompts", 0], 3, clip=("apply", 0), steps=1)
    graph["grid"]["inputs"]["filename_prefix"] = ["prompts", 1]
    return graph


def test_a_grid_of_prompts_is_saved_under_their_names_and_the_relation_is_learned_once(host_server, exemplars):
    graph = grid_graph(exemplars, preset="inside", limit=30)
    lists = prompts.prompt_lists()["inside"]
    wanted = prompts.grid("{subject} <R> {object}", lists["subjects"], lists["objects"], 30)
    images = host_server.run(graph)["grid"]["images"]
    assert len(images) == 30
    for image, name in zip(images, prompts.file_names(wanted), strict=True):
        assert image["filename"].startswith(f"{name}_0")
    with Image.open(host_server.picture(images[12])) as picture:
        kept = json.loads(picture.text["prompt"])["prompts"]["inputs"]
    assert kept["preset"] == "inside" and kept["template"] == "{subject} <R> {object}"
    pixels = [np.asarray(Image.open(host_server.picture(image))) for image in images[:2]]
    assert (pixels[0] != pixels[1]).any()

    graph["prompts"]["inputs"]["order_seed"] = 4
    ran, _ = ran_nodes(host_server, graph)
    assert "train" not in ran


def test_lists_come_from_a_file_in_the_input_folder(host_server):
    path = host_server.folder / "input" / "mine.json"
    graph = {"prompts": prompts_node(list_file="mine.json"), "text": graphs.node("PreviewAny", source=["prompts", 0])}
    path.write_text('{"near": {"subjects": ["cat"], "objects": ["stone", "box"]}}')
    assert host_server.run(graph)["text"]["text"] == ["cat <R> stone", "cat <R> box"]

    # Another content of the same name is read anew.
    path.write_text('{"near": {"subjects": ["dog"], "objects": ["box"]}, "far": {"subjects": ["a"], "objects": ["b"]}}')
    with pytest.raises(PromptError, match="'mine.json' has several relations; write one of near, far"):
        host_server.run(graph)
    graph["prompts"]["inputs"]["list_relation"] = "near"
    assert host_server.run(graph)["text"]["text"] == ["dog <R> box"]

    for name, said in (("../mine.json", "choose a name without"), ("none.json", "there is no file 'none.json'")):
        graph["prompts"]["inputs"]["list_file"] = name
        with pytest.raises(PromptError, match=said):
            host_server.run(graph)


def test_memory_stays_flat_over_more_prompts(host_server, exemplars):
    host_server.run(grid_graph(exemplars, preset="inside", limit=30))  # the models are loaded
    process = psutil.Process(host_server.process.pid)
    before = process.memory_info().rss
    host_server.run(grid_graph(exemplars, preset="on", limit=30))
    assert process.memory_info().rss < 1.05 * before


def test_a_queue_cancelled_in_the_middle_goes_on_without_learning_again(host_server, exemplars):
    graph = grid_graph(exemplars, preset="on", limit=10)
    folder = host_server.folder / "output"
    with host_server.following(graph, "grid-sample") as (job, progress):
        for _ in range(3):
            next(progress)
        host_server.post("interrupt")
        assert server.failure(host_server.wait(job, 60)) == "interrupted"
    ran, outputs = ran_nodes(host_server, graph)
    images = outputs["grid"]["images"]
    assert len(images) == 10 and all((folder / image["subfolder"] / image["filename"]).exists() for image in images)
    assert "train" not in ran and "grid-sample" in ran


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"subjects": "cat\ndog", "pick": 2},
            "ReVersion Prompts, input 'pick': there are 2 prompts, 0 to 1, and 2 is asked for; write the first that is "
            "missing, 0 to begin anew, or -1 for all in one run.",
        ),
        ({"subjects": " \n"}, "ReVersion Prompts, input 'subjects': the list is empty; write one a line."),
        (
            {"template": "a <R> {object}", "subjects": "cat\ndog"},
            "ReVersion Prompts, input 'template': {subject} is missing; write {subject} where the words go.",
        ),
    ],
)
def test_a_grid_that_says_nothing_is_refused(host_server, exemplars, given, sentence):
    with pytest.raises(PromptError) as caught:
        host_server.run(grid_graph(exemplars, **given))
    assert sentence in str(caught.value)


def test_scores_of_a_grid_make_a_table(host_server, exemplars):
    tiny_clip.write(host_server.folder / "models" / "clip_vision" / "tiny")
    graph = grid_graph(exemplars, subjects="red circle\nblue star", objects="green heart")
    graph["score"] = graphs.node(
        "ReVersionScore", images=["grid-picture", 0], prompts=["prompts", 0], phrase="inside", clip_folder="tiny",
        placeholder="<R>", name="grid",
    )  # fmt: skip
    (table,) = host_server.run(graph)["score"]["text"]
    with (host_server.folder / "output" / "reversion" / "grid.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = ["red circle <R> green heart", "blue star <R> green heart"]
    assert [row["prompt"] for row in rows] == [*wanted, "mean", "95% from", "95% to"]
    assert all((row["phrase"], row["judge"], row["placeholder"]) == ("inside", "tiny", "<R>") for row in rows[:2])
    for name in ("entity_score", "relation_score"):
        values = [float(row[name]) for row in rows[:3]]
        assert values[2] == pytest.approx(sum(values[:2]) / 2, abs=1e-4) and values[2] != 0
        assert [row[name] for row in rows[3:]] == ["", ""]  # of two prompts nothing is known of others
    assert rows[0]["entity_score"] in table


def measuring(exemplars, pick, name, **given):
    """A grid whose prompts are drawn and scored one a Run, two pictures each, into one table."""
    graph = grid_graph(exemplars, subjects="red circle\nblue star", objects="green heart", pick=pick)
    graph["grid-latent"]["inputs"]["batch_size"] = 2
    inputs = {"images": ["grid-picture", 0], "prompts": ["prompts", 0], "phrase": "inside", "placeholder": "<R>"}
    graph["score"] = graphs.node("ReVersionScore", **inputs, name=name, add_to_table=True, **given)
    return graph


def test_a_table_grows_run_by_run_and_a_run_that_is_repeated_adds_nothing(host_server, exemplars):
    tiny_clip.write(host_server.folder / "models" / "clip_vision" / "tiny")
    path, said = host_server.folder / "output" / "reversion" / "grows.csv", []
    for pick in (0, 1, 0):
        with host_server.following(measuring(exemplars, pick, "grows", clip_folder="tiny"), "prompts") as (job, bar):
            assert next(bar) == (pick, 2)
            said.append(host_server.wait(job)["outputs"]["score"]["text"][0])
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["prompt"].partition(" <R>")[0] for row in rows[:4]] == ["red circle"] * 2 + ["blue star"] * 2
    assert [row["prompt"] for row in rows[4:]] == ["mean", "95% from", "95% to"]
    assert len({row["picture"] for row in rows[:4]}) == 4
    relation = [float(row["relation_score"]) for row in rows[:5]]
    assert relation[4] == pytest.approx(np.mean(relation[:4]), abs=1e-4)
    assert "2 pictures of 1 prompt." in said[0] and "4 pictures of 2 prompts." in said[1]
    assert (
        said[1].startswith(f"Relation {relation[4]:.3f}, entity") and said[2].split("\n")[0] == said[1].split("\n")[0]
    )
    assert not list(path.parent.glob("grows-*"))


def test_another_judge_s_table_is_measured_without_any_clip(host_server, exemplars):
    judge = graphs.node("ReVersionJudge", images=["grid-picture", 0], prompts=["prompts", 0], relation="inside")
    graph = measuring(exemplars, 0, "judge", clip_folder="none at all", judged=["judge", 0]) | {"judge": judge}
    (said,) = host_server.run(graph)["score"]["text"]
    assert "2 pictures of 1 prompt." in said
    with (host_server.folder / "output" / "reversion" / "judge.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:2]
    assert all(row["judge"] == "judged" and float(row["relation_score"]) in (0, 1) for row in rows)

    # The same name with a CLIP, and too few lines.
    graph["score"]["inputs"] |= {"clip_folder": "tiny", "judged": "entity_score,relation_score\n1,1"}
    with pytest.raises(PromptError, match="'judged': the number of its lines is 1 and that of the pictures 2; give"):
        host_server.run(graph)
    del graph["score"]["inputs"]["judged"]
    with pytest.raises(PromptError, match="'judge.csv' was measured with the judge 'judged' and not 'tiny'; choose"):
        host_server.run(graph)


def test_inspecting_a_relation_names_its_nearest_words(host_server, exemplars):
    graph = graphs.learn(exemplars, **{**SHORT, "preset": "paper"})  # free to begin at the initial word
    graph["inspect"] = graphs.node(
        "ReVersionInspect", relation=["train", 0], clip=["checkpoint", 1], words=5, entities="red circle"
    )
    graph["picture"] = graphs.node("SaveImage", images=["inspect", 1], filename_prefix="words")
    outputs = host_server.run(graph)
    (report,) = outputs["inspect"]["text"]
    # After two steps it is still nearest to the word that it started from.
    heading, nearest = report.split(" Nearest words: ")
    words = [word.split(" ")[0] for word in nearest.split(", ")]
    assert heading.startswith("R is ") and words[0] == "and" and len(set(words)) == 5 and "</w>" not in report
    assert len(outputs["picture"]["images"]) == 1
