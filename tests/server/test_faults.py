"""Bad and strange input of every kind, through the server: each case gives its sentence or works, and the host goes on.

How many cases of which kind were tried, and what came of them, is written to build/faults/report.json.
"""

import collections
import json

import pytest
import torch
from bad_files import PICTURES, RELATION_FILES, png

from lab.harness import comfyui, graphs
from lab.harness.server import PromptError
from lab.miniature.exemplars import write_exemplars
from reversion_core.store import relation as relation_files
from reversion_core.store.files import write_whole

ONE_STEP = {"preset": "fast", "steps": 1, "batch_size": 1, "accumulation": 1}
OUTSIDE = ("../up", "..\\up", "a/../../up", "/etc/passwd", "C:\\Windows\\x", "\\\\host\\share\\x", "nul\0x", "..")


@pytest.fixture(scope="module")
def tally():
    found = collections.defaultdict(collections.Counter)
    yield found
    counts = {kind: dict(outcomes) for kind, outcomes in found.items()}
    report = {"tried": sum(sum(outcomes.values()) for outcomes in counts.values()), "by_kind": counts}
    write_whole(comfyui.ROOT / "build" / "faults" / "report.json", json.dumps(report, indent=1).encode())


@pytest.fixture(scope="module", autouse=True)
def weights_stay(probe):
    """The weights in the server are bit for bit the same after all of it."""
    before = probe()["weights"]
    yield
    assert probe()["weights"] == before


@pytest.fixture
def attempt(host_server, tally, request):
    """Run a graph; the answer must be a refusal that matches `expected`, or success where that is None."""

    def run(graph, expected):
        kind = request.function.__name__.removeprefix("test_")
        try:
            outputs = host_server.run(graph)
        except PromptError as error:
            tally[kind]["refused"] += 1
            assert expected is not None, str(error)
            assert expected in str(error)
            return None
        tally[kind]["worked"] += 1
        assert expected is None, "it was not refused"
        return outputs

    yield run
    assert host_server.get("system_stats")


def load_relation(name):
    graph = {"load": graphs.node("ReVersionLoadRelation", relation=name)}
    return graph | {"about": graphs.node("PreviewAny", source=["load", 1])}


@pytest.fixture(scope="module")
def embeddings(host_server):
    folder = host_server.folder / "models" / "embeddings"
    vectors = torch.randn(1, 768, generator=torch.Generator().manual_seed(0)) * 0.02
    relation_files.save(relation_files.Relation({"clip_l": vectors}), folder / "sound.safetensors")
    return folder


@pytest.mark.parametrize(
    "name",
    [
        *OUTSIDE,
        "",
        " ",
        "CON",
        "nul",
        "Com1",
        "a<b",
        "a|b",
        "a?b",
        "a b",
        "x" * 300,
        "\u732b",
        "7",
        ".hidden",
        "a.b",
        "a:b",
    ],
)
def test_names_of_relations_to_save(attempt, embeddings, name):
    graph = {
        "load": graphs.node("ReVersionLoadRelation", relation="sound.safetensors"),
        "save": graphs.node("ReVersionSaveRelation", relation=["load", 0], name=name, overwrite=True),
    }
    before = sorted(embeddings.parent.parent.rglob("*"))
    attempt(graph, "ReVersion Save Relation, input 'name'")
    assert sorted(embeddings.parent.parent.rglob("*")) == before


@pytest.mark.parametrize("name", [*OUTSIDE, "", "lost.safetensors", "x" * 300, "con", "a<b>"])
def test_names_of_relations_to_load(attempt, embeddings, name):
    attempt(load_relation(name), "ReVersion Load Relation, input 'relation'")


@pytest.mark.parametrize("name", [*OUTSIDE, "", "lost", "x" * 300, "a<b>"])
def test_folders_of_exemplars(attempt, host_server, name):
    graph = {"exemplars": graphs.node("ReVersionLoadExemplars", folder=name, size=0, fit="crop")}
    graph["shown"] = graphs.node("PreviewImage", images=["exemplars", 1])
    attempt(graph, "ReVersion Load Exemplars, input 'folder'")


@pytest.mark.parametrize("name", [*OUTSIDE, "", "lost"])
def test_folders_of_clip(attempt, exemplars, name):
    graph = {"exemplars": graphs.node("ReVersionLoadExemplars", folder=exemplars, size=0, fit="crop")}
    graph["score"] = graphs.node(
        "ReVersionScore", images=["exemplars", 1], prompts=["exemplars", 2], phrase="on", clip_folder=name,
        placeholder="<R>", name="scores",
    )  # fmt: skip
    attempt(graph, "clip_folder")


@pytest.mark.parametrize("name", RELATION_FILES)
def test_relation_files(attempt, embeddings, name):
    data, expected = RELATION_FILES[name]
    (embeddings / name).write_bytes(data)
    attempt(load_relation(name), expected)
    assert not any(path.name == "ran" for folder in (comfyui.ROOT, embeddings) for path in folder.iterdir())


def test_a_relation_file_of_many_gigabytes(attempt, embeddings):
    with (embeddings / "gigantic.safetensors").open("wb") as file:
        file.truncate(3 * 2**30)  # sparse: it takes no room
    attempt(load_relation("gigantic.safetensors"), "larger than 1024 MB")


def shown(folder):
    graph = {"exemplars": graphs.node("ReVersionLoadExemplars", folder=folder, size=0, fit="crop")}
    return graph | {"shown": graphs.node("PreviewImage", images=["exemplars", 1])}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(attempt, host_server, name):
    folder = host_server.folder / "input" / f"picture-{list(PICTURES).index(name)}"
    folder.mkdir()
    (folder / name).write_bytes(PICTURES[name][0])
    (folder / "text.json").write_text(json.dumps({name: ["cat {} stone"]}), encoding="utf-8")
    attempt(shown(folder.name), PICTURES[name][1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "it is not valid JSON"),
        ("{", "it is not valid JSON: Expecting property name enclosed in double quotes, line 1, column 2"),
        ("[]", "it is not a table of captions"),
        ('{"a.png": 3}', "it is not a table of captions"),
        ('{"a.png": []}', "it is not a table of captions"),
        ('{"a.png": [null]}', "it is not a table of captions"),
        ("[" * 100_000, "it is nested too deep"),
        ("\ufeff" + '{"a.png": "cat {} stone"}', None),
    ],
    ids=range(8),
)
def test_tables_of_captions(attempt, host_server, text, expected, request):
    folder = host_server.folder / "input" / f"table-{request.node.callspec.id}"
    folder.mkdir()
    (folder / "a.png").write_bytes(png())
    (folder / "text.json").write_text(text, encoding="utf-8")
    attempt(shown(folder.name), expected)


CAPTIONS = {
    "chinese": ("\u732b {} \u77f3", None),
    "arabic": ("\u0642\u0637\u0629 {} \u062d\u062c\u0631", None),
    "emoji": ("\U0001f354 {} \U0001faa8", None),
    "weights": ("((cat:1.3)) {} [stone] (moss:0)", None),
    "braces": ("{cat|dog} {} {{stone}}", None),
    "embedding": ("embedding:sound {} stone", None),
    "lost embedding": ("embedding:lost {} stone", None),
    "embedding without a name": ("cat {} stone embedding:", "write a name after embedding:"),
    "control characters": ("cat\t\x01 {}\x7f stone", None),
    "placeholder": ("cat <R> stone", None),
    "digits": ("2 cats {} 3.5 stones", None),
    "prepositions only": ("on {} under", None),
    "two slots": ("cat {} {} stone", "has more than one {}"),
    "slot alone": ("{}", "of a.png is only {}"),
    "slot too late": ("cat " * 200 + "{} stone", "longer than 77 tokens"),
    "very long": ("cat {} " + "stone " * 2_000, None),
}


@pytest.mark.parametrize("kind", CAPTIONS)
def test_captions(attempt, host_server, embeddings, kind):
    caption, expected = CAPTIONS[kind]
    folder = host_server.folder / "input" / f"caption-{kind}"
    folder.mkdir()
    (folder / "a.png").write_bytes(png())
    (folder / "text.json").write_text(json.dumps({"a.png": [caption]}), encoding="utf-8")
    graph = graphs.learn(folder.name, **ONE_STEP)
    graph["save"] = graphs.node("ReVersionSaveRelation", relation=["train", 0], name="strange", overwrite=True)
    attempt(graph, expected)
    if expected is None:
        assert relation_files.load(embeddings / "strange.safetensors").vectors["clip_l"].isfinite().all()


@pytest.mark.parametrize(("count", "expected"), [(0, "has no pictures"), (1, None), (500, None)])
def test_numbers_of_exemplars(attempt, host_server, count, expected):
    folder = host_server.folder / "input" / f"count-{count}"
    write_exemplars(folder, "inside", count)
    graph = graphs.learn(folder.name, **ONE_STEP)
    graph["save"] = graphs.node("ReVersionSaveRelation", relation=["train", 0], name="counted", overwrite=True)
    attempt(graph, expected)


@pytest.mark.parametrize(
    "inputs",
    [
        {"steps": -1},
        {"steps": 10**9},
        {"batch_size": 65},
        {"accumulation": -3},
        {"learning_rate": 2.0},
        {"learning_rate": -1.0},
        {"vectors": 0},
        {"vectors": 9},
        {"training_seed": -1},
        {"preset": "best"},
        {"schedule": "\u732b"},
        {"norm": "loud"},
        {"precision": "int4"},
        {"memory": "none"},
        {"initial_word": "two words"},
        {"initial_word": "embedding:sound"},
        {"preview_prompt": "no placeholder", "previews": 1},
    ],
    ids=str,
)
def test_settings(attempt, exemplars, inputs):
    graph = graphs.learn(exemplars, **{**ONE_STEP, **inputs})
    graph["save"] = graphs.node("ReVersionSaveRelation", relation=["train", 0], name="settings", overwrite=True)
    attempt(graph, next(iter(inputs)))


def test_choices_that_a_node_does_not_have(attempt, host_server, exemplars, embeddings):
    """Newer hosts refuse them by themselves, and name the input too."""
    prompts = graphs.node(
        "ReVersionPrompts", template="a", subjects="a", objects="b", preset="in between", limit=0, order_seed=0
    )
    attempt({"prompts": prompts, "shown": graphs.node("PreviewAny", source=["prompts", 0])}, "preset")
    graph = shown(exemplars)
    graph["exemplars"]["inputs"]["fit"] = "squash"
    attempt(graph, "fit")
    graph = load_relation("sound.safetensors")
    del graph["about"]  # the host would run this part of the graph
    graph["save"] = graphs.node(
        "ReVersionSaveRelation", relation=["load", 0], name="other", overwrite=True, format="exe"
    )
    attempt(graph, "format")


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "<R>",
        "<R>" * 100,
        "(((<R>:99)))",
        "<R> embedding:lost <R>",
        "\U0001f354<R>\u732b",
        "<R>:<R>:1.5)",
        "cat " * 500 + "<R>",
    ],
    ids=range(8),
)
def test_prompts(attempt, embeddings, prompt):
    graph = load_relation("sound.safetensors")
    graph["checkpoint"] = graphs.node("CheckpointLoaderSimple", ckpt_name=graphs.CHECKPOINT)
    graph["apply"] = graphs.node(
        "ReVersionApplyRelation", clip=["checkpoint", 1], relation=["load", 0], placeholder="<R>", strength=1.5
    )
    attempt(graph | graphs.draw("prompt", prompt, 1, ("apply", 0), steps=1), None)
