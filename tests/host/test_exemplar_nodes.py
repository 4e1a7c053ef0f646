"""The two exemplar nodes: one rule for pictures, captions from the graph, and what they say."""

import json

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture
def nodes(reversion, tmp_path, monkeypatch):
    import folder_paths
    from reversion_pack.nodes import exemplars

    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path))
    (tmp_path / "set").mkdir()
    return exemplars


def load(nodes, *arguments, **options):
    found, _, report = nodes.ReVersionLoadExemplars.execute("set", *arguments, **options).args
    return found, report


def join(nodes, images, captions, size=0, **more):
    pictures = {name: [picture] for name, picture in more.items()}
    output = nodes.ReVersionExemplars.execute([images], [captions], [size], ["crop"], **pictures)
    return output.args[0], output.ui["text"][0] if isinstance(output.ui, dict) else output.ui.as_dict()["text"][0]


def test_both_nodes_lay_transparency_on_white(nodes, tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (8, 8, 4), np.uint8)
    Image.fromarray(values).save(tmp_path / "set" / "0.png")
    from_file, _ = load(nodes, 0, "crop", captions="cat {} stone")
    from_node, _ = join(nodes, torch.from_numpy(values)[None] / 255.0, "cat {} stone")
    assert np.array_equal(from_file.pictures[0], from_node.pictures[0])


def test_load_image_and_join_image_with_alpha_lay_transparency_on_white(nodes, tmp_path, monkeypatch):
    """As the help page of ReVersion Exemplars says: the picture, and not what is hidden in it."""
    import folder_paths
    from comfy_extras import nodes_compositing

    import nodes as host_nodes

    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path))
    for name, alpha in (("cut out.png", True), ("opaque.png", False)):
        values = np.full((8, 8, 4), 255, np.uint8)
        values[..., 0], values[:, :4, 3] = 90, 0
        Image.fromarray(values if alpha else values[..., :3]).save(tmp_path / name)
        image, mask = host_nodes.LoadImage().load_image(name)
        if not alpha:
            mask = torch.nn.functional.interpolate(mask[None], (8, 8))[0]
        joined = nodes_compositing.JoinImageWithAlpha.execute(image, mask).args[0]
        found, _ = join(nodes, joined, "cat {} stone")
        assert found.pictures[0][0, :, 0].tolist() == ([255] * 4 + [90] * 4 if alpha else [90] * 8)


def test_pictures_one_by_one_follow_each_other(nodes):
    greys = [torch.full((1, 8 * i, 8, 3), i / 10) for i in range(1, 11)]
    more = {f"picture_{i}": greys[i - 1] for i in (3, 2, 10)}
    found, report = join(nodes, torch.cat([greys[0]] * 2), "{} a\n{} b\n{} c\n{} d\n{} e", **more)
    assert [picture[0, 0, 0] for picture in found.pictures] == [26, 26, 51, 76, 255]
    assert found.captions[4] == ("{} e",) and "picture 1 (8 x 8): {} a" in report


def test_a_picture_that_is_none_is_refused_by_its_input(nodes, core):
    refused = "ReVersion Exemplars, input 'picture_2': it cannot be read .it has shape 8"
    with pytest.raises(core.errors.ReVersionError, match=refused):
        join(nodes, torch.zeros(1, 8, 8, 3), "cat {} stone", picture_2=torch.zeros(8))


def test_the_report_says_size_skipped_files_and_hints(nodes, tmp_path):
    for name, side in (("0.png", 600), ("1.png", 400)):
        Image.new("RGB", (side, side)).save(tmp_path / "set" / name)
    (tmp_path / "set" / "notes.md").touch()
    (tmp_path / "set" / "text.json").write_text(json.dumps({"0": "(cat:1.3) {} stone", "1": "cat {} stone"}))
    _, report = load(nodes, 0, "crop")
    assert "at most 400 x 400 pixels; the smallest picture is 1.png (400 x 400)." in report
    assert "Not read: notes.md; the captions are those of text.json." in report
    assert "Captions of 0.png: '(cat:1.3)': weights do not count" in report
    _, report = load(nodes, 100, "crop", captions="a {} b\nc {} d")
    assert "96 x 96 pixels as chosen" in report and "1.png (400 x 400): c {} d" in report


@pytest.mark.parametrize("size", [-8, 2000])
def test_a_size_that_no_widget_has_is_refused(nodes, core, size):
    with pytest.raises(core.errors.ReVersionError, match="input 'size': .* is not a size"):
        join(nodes, torch.zeros(1, 8, 8, 3), "cat {} stone", size=size)


def test_a_placeholder_that_is_taken_is_refused(reversion, core, loaded):
    from reversion_pack.nodes.relation import ReVersionApplyRelation

    relation = core.relation.Relation({"clip_l": torch.full((1, 768), 0.02)})
    (once,) = ReVersionApplyRelation.execute(loaded.clip, relation, "<R>", 1.0).args
    ReVersionApplyRelation.execute(once, relation, "<S>", 1.0)
    ReVersionApplyRelation.execute(loaded.clip, relation, "<R>", 1.0)  # the CLIP that came in has none
    with pytest.raises(core.errors.ReVersionError, match="<R> stands for another relation .*; choose another word"):
        ReVersionApplyRelation.execute(once, relation, "<R>", 1.0)


MANY = "\n".join(map(str, range(4000)))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"template": "{Subject} <R> {object}"}, "'template': {Subject} is not filled in"),
        ({"subjects": MANY, "objects": MANY, "limit": 0}, "'limit': 16000000 prompts are more than 100000"),
        ({"subjects": MANY, "objects": MANY, "order_seed": 1}, "'limit': 4000 x 4000 pairs are more than"),
        ({"template": "{subject}{object}" * 1000, "subjects": "x" * 10**6}, "'limit': .* MB of text"),
    ],
)
def test_a_grid_that_is_too_large_or_miswritten_is_refused_before_it_is_built(reversion, core, given, said):
    from reversion_pack.nodes.prompts import ReVersionPrompts

    inputs = {"template": "{subject} <R> {object}", "subjects": "cat", "objects": "stone", "order_seed": 0, "limit": 1}
    with pytest.raises(core.errors.ReVersionError, match=said):
        ReVersionPrompts.execute(**{**inputs, **given}, preset="my own lists")


@pytest.fixture
def score(reversion, core, tmp_path, monkeypatch):
    """ReVersion Score up to its CLIP, in whose place the pictures and their prompts are returned."""
    from reversion_pack.nodes import tools

    given = {}
    monkeypatch.setattr(tools.places, "clip_folder", lambda name, node: tmp_path)
    monkeypatch.setattr(tools.places, "output_folder", lambda: tmp_path)
    monkeypatch.setattr(tools.scoring, "load", lambda folder, node: (None, None))

    def scores(model, processor, pictures, wanted):
        given.update(pictures=pictures, wanted=wanted)
        return np.zeros(len(pictures)), np.zeros(len(pictures))

    monkeypatch.setattr(tools.scoring, "scores", scores)

    def run(*images, placeholder="<R>", phrase="on"):
        prompts = [f"cat {i} <R> stone" for i in range(len(images))]
        tools.ReVersionScore.execute(list(images), prompts, [phrase], ["clip"], [placeholder], ["s"])
        return given

    return run


@pytest.mark.parametrize(
    ("image", "count", "value"),
    [
        (torch.full((2, 8, 6, 3), 0.5), 2, 128),
        (torch.full((8, 6, 3), 0.5), 1, 128),
        (torch.full((2, 8, 6), 0.5), 2, 128),
        (torch.zeros(1, 8, 6, 4), 1, 255),
        (torch.full((1, 8, 6, 3), 128, dtype=torch.uint8), 1, 128),
    ],
    ids=range(5),
)
def test_scores_are_of_the_pictures_as_exemplars_are_read(score, image, count, value):
    given = score(image, torch.zeros(1, 8, 6, 3))
    assert len(given["pictures"]) == count + 1 == len(given["wanted"])
    assert all(p.shape == (8, 6, 3) and (p == value).all() for p in given["pictures"][:count])
    assert [w.entities[:5] for w in given["wanted"]] == ["cat 0"] * count + ["cat 1"]


@pytest.mark.parametrize(
    ("image", "options", "said"),
    [
        (
            torch.full((1, 8, 6, 3), float("nan")),
            {},
            "input 'images': it cannot be read .it holds numbers that are not",
        ),
        (torch.zeros(0, 8, 6, 3), {}, "input 'images': it cannot be read .it is empty"),
        (None, {}, "input 'images': it cannot be read .it is a NoneType"),
        (torch.full((1, 8, 6, 3), 255.0), {}, "input 'images': .*divide it by 255"),
        (torch.zeros(1, 8, 6, 3), {"placeholder": " "}, "input 'placeholder': it is empty; write <R>"),
        (torch.zeros(1, 8, 6, 3), {"phrase": ""}, "input 'phrase': it is empty"),
    ],
    ids=range(6),
)
def test_what_cannot_be_scored_is_a_sentence(score, core, image, options, said):
    with pytest.raises(core.errors.ReVersionError, match=said):
        score(image, **options)
