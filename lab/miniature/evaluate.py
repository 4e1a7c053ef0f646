"""The miniature's figures: how well it draws what its own words say, its first stage, and the judge.

`python -m lab.miniature.evaluate` writes accuracy.json and a sample sheet to build/miniature/FAMILY and prints the
table. A server's KSampler makes the pictures, of pairs of entities that the miniature was not trained on.
"""

import argparse
import json

import numpy as np
import torch
from PIL import Image

from lab.harness import base_directory, comfyui, graphs, server
from lab.harness.studio import Studio
from lab.miniature import first_stage, judge, pack, placing, world
from lab.miniature.forms import FORMS, Form

FOLDER = comfyui.ROOT / "build" / "miniature"


def measure(running, form, relation, pairs, **drawing):
    """Pictures of every pair in a relation, by the relation's own word, and {relation, entity accuracy} of them.

    drawing: of `graphs.draw`.
    """
    graph = {"checkpoint": graphs.node("CheckpointLoaderSimple", ckpt_name=form.checkpoint)}
    for i, (subject, object_) in enumerate(pairs):
        graph |= graphs.draw(f"e{i}", f"{subject} {relation} {object_}", 100 + i, side=form.side, **drawing)
    outputs = running.run(graph, 3600)
    pictures = [world.reduced(running.pixels(outputs, f"e{i}")) for i in range(len(pairs))]
    found = judge.measures(pictures, pairs, relation)
    return pictures, {name: float(found[name].mean()) for name in ("relation", "entity")}


def own_words(count, form: Form, **drawing):
    """(table of accuracies, sample sheet uint8 [h, w, 3]) on `count` held-out pairs a relation."""
    table, rows = {}, []
    with server.Server(base_directory.of("evaluate"), checkpoints=[server.miniature(form)]) as running:
        for number, relation in enumerate(world.RELATIONS):
            rng = np.random.default_rng((8, number))
            pairs = [world.random_pair(rng, held_out_pairs=True) for _ in range(count)]
            pictures, table[relation] = measure(running, form, relation, pairs, **drawing)
            rows.append(np.concatenate(pictures[:10], axis=1))
            print(relation, table[relation], flush=True)  # noqa: T201
    table["mean"] = {key: float(np.mean([row[key] for row in table.values()])) for key in ("relation", "entity")}
    return table, np.concatenate(rows)


def scenes(count, seed):
    """Scenes of held-out pairs, half of them off the grid."""
    rng = np.random.default_rng((12, seed))
    on_grid = (placing.random_scene(rng, held_out_pairs=True) for _ in range(count))
    return [placing.loosened(scene, rng) if i % 2 else scene for i, scene in enumerate(on_grid)]


def rendered(scenes, scale):
    """Pictures of scenes, float32 [n, 64 * scale, 64 * scale, 3] in 0..1."""
    return torch.from_numpy(np.stack([world.render(scene, scale) for scene in scenes])).float() / 255


@torch.inference_mode()
def through(vae, pictures):
    """The same pictures after the host's VAE."""
    return vae.decode(vae.encode(pictures)).clamp(0, 1).cpu()


def after_first_stage(vae, scale, count=100):
    """Relation -> the share of the world's own scenes that the judge still reads right after the first stage: what a
    denoiser that draws the latents it was taught would reach."""
    rng, table = np.random.default_rng((12, 2)), {}
    for relation in world.RELATIONS:
        drawn = [placing.arrange(relation, *world.random_pair(rng, held_out_pairs=True), rng) for _ in range(count)]
        pictures = map(world.reduced, (through(vae, rendered(drawn, scale)) * 255).byte().numpy())
        table[relation] = float(np.mean([reads(*each) for each in zip(drawn, pictures, strict=True)]))
    return table | {"mean": float(np.mean(list(table.values())))}


def reads(scene, picture):
    """Whether the judge sees both entities of a scene, nothing else, and the relation."""
    seen = judge.look(picture)
    return set(seen.entities) == set(scene.pair) and seen.relation(*scene.pair) == scene.relation


def judged(count=5000):
    """The share of rendered scenes that the judge reads right."""
    return float(np.mean([reads(scene, world.render(scene)) for scene in scenes(count, 1)]))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", choices=FORMS, default="sd1")
    parser.add_argument("--pairs", type=int, default=25, help="a relation")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=2.5)
    parser.add_argument("--sampler", default="dpmpp_2m_sde")
    parser.add_argument("--scheduler", default="karras")
    arguments = parser.parse_args()
    drawing = {name: value for name, value in vars(arguments).items() if name not in ("family", "pairs")}
    form, folder = pack.chosen_form(parser, arguments.family), FOLDER / arguments.family
    folder.mkdir(parents=True, exist_ok=True)
    table, sheet = own_words(arguments.pairs, form, **drawing)
    Image.fromarray(sheet).save(folder / "samples.png")
    vae, pictures = Studio(arguments.family).vae, rendered(scenes(200, 0), form.scale)
    report = {**vars(arguments), "accuracy": table, "psnr": first_stage.psnr(through(vae, pictures), pictures)}
    report |= {"after_first_stage": after_first_stage(vae, form.scale), "judge": judged()}
    (folder / "accuracy.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
