"""Bad input is refused before any work, in one sentence that names node, input and cure."""

import json
import pickle
import re

import pytest
import torch
from PIL import Image

from lab.harness import graphs, server
from lab.harness.server import PromptError
from reversion_core.store import relation as relation_files


def folder_with(host_server, name, captions, pictures=("a.png",)):
    folder = host_server.folder / "input" / name
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        Image.new("RGB", (64, 64), "red").save(folder / picture)
    (folder / "text.json").write_text(json.dumps(captions))
    return name


def refusal(host_server, graph):
    graph = graph | {"save": graphs.node("ReVersionSaveRelation", relation=["train", 0], name="bad", overwrite=True)}
    with pytest.raises(PromptError) as caught:
        host_server.run(graph)
    assert not (host_server.folder / "models" / "embeddings" / "bad.safetensors").exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("captions", "pictures", "sentence"),
    [
        (
            {"a.png": ["cat stone"]},
            ["a.png"],
            "ReVersion Load Exemplars, input 'folder': the caption 'cat stone' of a.png has no {}; "
            "write {} once, where the relation stands.",
        ),
        (
            {"a.png": ["cat {} stone"]},
            ["a.png", "b.png"],
            "ReVersion Load Exemplars, input 'folder': no caption for b.png; add it to text.json.",
        ),
        (
            {"a.png": ["cat {} stone"], "c.png": ["cat {} stone"]},
            ["a.png"],
            "ReVersion Load Exemplars, input 'folder': text.json has captions without a picture: c.png; "
            "add the picture or take them out.",
        ),
        (
            {},
            [],
            "has no pictures, only text.json; put 4 to 10 exemplars there (PNG, JPEG, WebP and others).",
        ),
        (
            {"a.png": ["word " * 90 + "{} stone"]},
            ["a.png"],
            "is longer than 77 tokens and its {} comes too late; shorten it.",
        ),
    ],
    ids=["no placeholder", "no caption", "no picture", "empty folder", "cut off"],
)
def test_exemplars(host_server, captions, pictures, sentence, request):
    name = folder_with(host_server, request.node.callspec.id.replace(" ", "-"), captions, pictures)
    assert sentence in refusal(host_server, graphs.learn(name))


@pytest.mark.parametrize("folder", ["../output", "/etc", "inside/../../models", "C:\\pictures", ""])
def test_folders_outside_the_input_folder(host_server, exemplars, folder):
    message = refusal(host_server, graphs.learn(folder))
    assert "ReVersion Load Exemplars, input 'folder':" in message
    assert "is not inside ComfyUI's input folder; choose a name without '..'" in message


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        (
            {"initial_word": "hamburgerpaintedon"},
            "ReVersion Train, input 'initial_word': 'hamburgerpaintedon' is not one token of the text encoder; "
            "use a word such as 'and'.",
        ),
        ({"initial_word": " "}, "ReVersion Train, input 'initial_word': it is empty; use a word such as 'and'."),
    ],
)
def test_initial_word(host_server, exemplars, inputs, sentence):
    assert sentence in refusal(host_server, graphs.learn(exemplars, **inputs))


def test_basis_words_of_several_tokens(host_server, exemplars):
    graph = graphs.learn(exemplars)
    graph["steering"] = graphs.node(
        "ReVersionSteering", weight=0.01, temperature=0.07, positives=1, basis="on on-top-of", extra_negatives=""
    )
    graph["train"]["inputs"]["steering"] = ["steering", 0]
    assert "'on-top-of' of the word basis is not one token; take it out of ReVersion Steering" in refusal(
        host_server, graph
    )


def applying(relation, placeholder="<R>"):
    graph = {
        "checkpoint": graphs.node("CheckpointLoaderSimple", ckpt_name=server.CHECKPOINT),
        "train": graphs.node("ReVersionLoadRelation", relation=relation),
        "apply": graphs.node(
            "ReVersionApplyRelation",
            clip=["checkpoint", 1],
            relation=["train", 0],
            placeholder=placeholder,
            strength=1.0,
        ),
    }
    return graph | graphs.draw("applied", "cat <R> stone", 1, clip=("apply", 0), steps=1)


@pytest.fixture
def embeddings(host_server):
    folder = host_server.folder / "models" / "embeddings"
    relation_files.save(relation_files.Relation({"clip_l": torch.ones(1, 768)}), folder / "plain.safetensors")
    relation_files.save(relation_files.Relation({"clip_h": torch.ones(1, 1024)}), folder / "wide.safetensors")
    torch.save({"<R>": torch.zeros(300)}, folder / "narrow.bin")
    return folder


@pytest.mark.parametrize("placeholder", ["inside", "", "<a b>", "the <R>", "<R"])
def test_placeholder_that_is_an_ordinary_word(host_server, embeddings, placeholder):
    with pytest.raises(PromptError, match=r"ReVersion Apply Relation, input 'placeholder': .* write a word in angle"):
        host_server.run(applying("plain.safetensors", placeholder))


def test_relation_of_another_family_or_width(host_server, embeddings):
    with pytest.raises(PromptError, match=r"input 'relation': it is for SD 2\.x .*; use the kind of checkpoint"):
        host_server.run(applying("wide.safetensors"))
    with pytest.raises(PromptError, match=r"'narrow\.bin' is not a relation \(clip_l has shape 1 x 300"):
        host_server.run(applying("narrow.bin"))


def test_missing_relation_and_one_outside_the_folder(host_server, embeddings):
    with pytest.raises(PromptError, match=r"Load Relation, input 'relation': there is no file 'lost\.safetensors'"):
        host_server.run(applying("lost.safetensors"))
    for name in ("../../outside.safetensors", "/etc/passwd", "C:\\r.bin"):
        with pytest.raises(PromptError, match="is not inside ComfyUI's embeddings folder"):
            host_server.run(applying(name))


def test_a_prompt_without_its_placeholder_is_said_and_drawn(host_server, embeddings):
    assert "applied" in host_server.run(applying("plain.safetensors", "<S>"))
    assert "<R> is read as letters: this CLIP knows <S>" in host_server.log.read_text()


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickle_with_code_does_not_run(host_server, embeddings):
    (embeddings / "evil.pt").write_bytes(pickle.dumps({"<R>": Malicious(embeddings / "ran")}))
    with pytest.raises(PromptError, match=r"'evil\.pt' is not a relation .it holds more than numbers and was not op"):
        host_server.run(applying("evil.pt"))
    assert not (embeddings / "ran").exists()


def test_another_relation_is_saved_under_the_next_free_name_unless_it_may_be_replaced(host_server, embeddings):
    def save(relation, overwrite):
        graph = {
            "load": graphs.node("ReVersionLoadRelation", relation=relation),
            "save": graphs.node("ReVersionSaveRelation", relation=["load", 0], name="kept", overwrite=overwrite),
        }
        return host_server.run(graph)["save"]["text"]

    assert save("plain.safetensors", False) == save("plain.safetensors", False) == ["Saved as embedding:kept."]
    for _ in range(2):
        assert save("wide.safetensors", False) == ["Saved as embedding:kept-2; kept holds another relation."]
    assert relation_files.load(embeddings / "kept.safetensors").family == "SD 1.x"
    save("wide.safetensors", True)
    assert relation_files.load(embeddings / "kept.safetensors").family == "SD 2.x"


def test_a_name_is_taken_by_a_relation_of_any_format(host_server, embeddings):
    """ComfyUI's embedding:NAME finds the .safetensors before the .bin."""
    graph = {
        "load": graphs.node("ReVersionLoadRelation", relation="plain.safetensors"),
        "save": graphs.node("ReVersionSaveRelation", relation=["load", 0], name="both", overwrite=False, format="bin"),
    }
    (embeddings / "both.safetensors").write_bytes((embeddings / "wide.safetensors").read_bytes())
    assert host_server.run(graph)["save"]["text"] == ["Saved as embedding:both-2; both holds another relation."]
    assert (embeddings / "both-2.bin").exists() and not (embeddings / "both.bin").exists()


def test_a_name_is_taken_by_a_relation_in_any_folder(host_server, embeddings):
    """ComfyUI's embedding:NAME looks in all folders, in an order of chance."""
    (embeddings / "team").mkdir()
    (embeddings / "team" / "shared.safetensors").write_bytes((embeddings / "wide.safetensors").read_bytes())

    def save(overwrite):
        options = {"name": "shared", "overwrite": overwrite}
        graph = {
            "load": graphs.node("ReVersionLoadRelation", relation="plain.safetensors"),
            "save": graphs.node("ReVersionSaveRelation", relation=["load", 0], **options),
        }
        return host_server.run(graph)["save"]["text"][0]

    assert save(False) == "Saved as embedding:shared-2; shared holds another relation."
    assert re.fullmatch(r"Saved as embedding:shared\. ComfyUI may read .*shared\.safetensors instead: .*", save(True))


def test_what_is_said_to_be_saved_is_there_and_is_what_was_saved(host_server, embeddings):
    def save(relation):
        options = {"name": "cached", "overwrite": True}
        graph = {
            "load": graphs.node("ReVersionLoadRelation", relation=relation),
            "save": graphs.node("ReVersionSaveRelation", relation=["load", 0], **options),
        }
        entry = host_server.wait(host_server.queue(graph))
        messages = dict(entry["status"]["messages"])
        return "save" in messages["execution_cached"]["nodes"]

    file = embeddings / "cached.safetensors"
    assert [save("plain.safetensors") for _ in range(2)] == [False, True]
    file.unlink()
    assert [save("plain.safetensors") for _ in range(2)] == [False, True]
    save("wide.safetensors")
    assert not save("plain.safetensors")
    assert relation_files.load(file).family == "SD 1.x"
    assert [save("plain.safetensors") for _ in range(2)][-1]


def test_what_is_replaced_in_another_format_is_what_comfyui_reads_from_then_on(host_server, embeddings):
    """ComfyUI would go on reading the old .safetensors; the same relation may lie there in several formats."""

    def save(format):
        options = {"name": "turned", "overwrite": True, "format": format}
        graph = {
            "load": graphs.node("ReVersionLoadRelation", relation="plain.safetensors"),
            "save": graphs.node("ReVersionSaveRelation", relation=["load", 0], **options),
        }
        return host_server.run(graph)["save"]["text"], sorted(path.name for path in embeddings.glob("turned.*"))

    (embeddings / "turned.safetensors").write_bytes((embeddings / "wide.safetensors").read_bytes())
    assert save("pt") == (["Saved as embedding:turned. turned.safetensors is replaced by it."], ["turned.pt"])
    assert save("safetensors") == (["Saved as embedding:turned."], ["turned.pt", "turned.safetensors"])
    assert save("bin") == (["Saved as embedding:turned."], ["turned.bin", "turned.pt", "turned.safetensors"])


def test_a_relation_of_two_encoders_is_saved_in_a_format_that_holds_it(host_server, embeddings):
    vectors = {"clip_l": torch.full((1, 768), 0.01), "clip_g": torch.full((1, 1280), 0.01)}
    relation_files.save(relation_files.Relation(vectors), embeddings / "xl.safetensors")
    graph = {
        "load": graphs.node("ReVersionLoadRelation", relation="xl.safetensors"),
        "save": graphs.node("ReVersionSaveRelation", relation=["load", 0], name="xl-2", overwrite=False, format="pt"),
    }
    assert host_server.run(graph)["save"]["text"] == ["Saved as safetensors: pt cannot hold a relation of SDXL."]
    assert relation_files.load(embeddings / "xl-2.safetensors").vectors.keys() == vectors.keys()


@pytest.mark.parametrize("name", ["../up", "CON", "a b", "123"])
def test_names_that_cannot_be_saved(host_server, embeddings, name):
    graph = {
        "load": graphs.node("ReVersionLoadRelation", relation="plain.safetensors"),
        "save": graphs.node("ReVersionSaveRelation", relation=["load", 0], name=name, overwrite=False),
    }
    with pytest.raises(PromptError, match="ReVersion Save Relation, input 'name'"):
        host_server.run(graph)


def test_a_name_that_no_file_can_have_is_refused_before_the_training(host_server, exemplars):
    graph = graphs.learn(exemplars, steps=500, training_seed=77)
    graph["save"] = graphs.node("ReVersionSaveRelation", relation=["train", 0], name="a<b", overwrite=True)
    with pytest.raises(PromptError, match="ReVersion Save Relation, input 'name': the name 'a<b' has other"):
        host_server.queue(graph)


def test_a_word_that_is_part_of_any_prompt_is_refused_before_the_training(host_server, exemplars):
    graph = graphs.learn(exemplars, steps=500, training_seed=78)
    graph |= {"apply": graphs.apply(), **graphs.draw("out", "cat R stone", 1, clip=("apply", 0))}
    graph["apply"]["inputs"]["placeholder"] = "R"
    with pytest.raises(PromptError, match="ReVersion Apply Relation, input 'placeholder': 'R' could be an ordinary"):
        host_server.queue(graph)


def test_an_error_is_called_by_the_pack_not_by_a_path_of_this_machine(host_server, embeddings):
    graph = applying("plain.safetensors")
    graph["second"] = graphs.apply()
    graph["second"]["inputs"]["clip"] = ["apply", 0]  # which knows <R> already
    graph |= graphs.draw("out", "cat", 1, clip=("second", 0))
    entry = host_server.wait(host_server.queue(graph))
    kinds = [m["exception_type"] for kind, m in entry["status"]["messages"] if kind == "execution_error"]
    assert kinds == ["ReVersion"]


def test_a_name_may_come_from_another_node(host_server, embeddings):
    vectors = torch.randn(1, 768, generator=torch.Generator().manual_seed(0)) * 0.02
    relation_files.save(relation_files.Relation({"clip_l": vectors}), embeddings / "given.safetensors")
    graph = {
        "load": graphs.node("ReVersionLoadRelation", relation="given.safetensors"),
        "name": graphs.node("PrimitiveString", value="from-a-node"),
        "save": graphs.node("ReVersionSaveRelation", relation=["load", 0], name=["name", 0], overwrite=True),
    }
    assert host_server.run(graph)["save"]["text"] == ["Saved as embedding:from-a-node."]
    graph["name"]["inputs"]["value"] = "a<b"
    with pytest.raises(PromptError, match="input 'name': the name 'a<b'"):
        host_server.run(graph)
