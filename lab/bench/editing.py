"""Another relation in an existing picture: which of the host's ways reaches it, and what each keeps of the picture.

`python -m lab.bench.editing` draws scenes of one relation, and has the miniature change them into another: with a word,
and with what the preset fast learned from drawings of it. Writes build/benchmark/editing.md; `--publish` writes
docs/editing.md too.
"""

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from lab.bench import methods
from lab.bench.markdown import markdown_table, percent, write_page
from lab.bench.run import Runner, material
from lab.miniature import judge, placing, world
from lab.miniature.exemplars import unseen_pairs
from reversion_core.report.intervals import interval

RELATIONS = ("above", "left of", "inside", "behind", "on")
SCENES, STEPS, CFG = 40, 12, methods.SAMPLING["cfg"]
MEASURES = {
    "all three": "the relation, both entities and the background",
    "relation": "the wanted relation holds between the two entities",
    "entities": "both entities are there, with their colours",
    "background": "the background is that of the picture",
    "still the old": "the picture's own relation holds as before",
}


class Way(NamedTuple):
    """How a picture is changed; strength: the share of the noise levels that it goes through.

    kind: "image to image", "unsampling" (the host's sampler runs backwards first, with a plain prompt) or "mask" (the
    second entity's box stays).
    """

    kind: str
    strength: float


WAYS = (
    *(Way("image to image", strength) for strength in (0.6, 0.75, 0.9, 1.0)),
    *(Way("unsampling", strength) for strength in (0.75, 0.85, 0.95)),
    *(Way("mask", strength) for strength in (0.75, 0.9, 1.0)),
)


@dataclasses.dataclass
class Pictures:
    """Drawn scenes, and the relation that each is to have: scene i goes from `scenes[i].relation` to `wanted[i]`."""

    scenes: Sequence[world.Scene]
    sources: Sequence[str]
    wanted: Sequence[str]

    @classmethod
    def drawn(cls, count: int) -> "Pictures":
        rng = np.random.default_rng(5)
        wanted = [RELATIONS[i % len(RELATIONS)] for i in range(count)]
        others = [[r for r in RELATIONS if r != relation] for relation in wanted]
        sources = [other[i // len(RELATIONS) % len(other)] for i, other in enumerate(others)]
        pairs = unseen_pairs(count, (), seed=3)
        scenes = [
            placing.arrange(source, *pair, rng, world.random_background(rng))
            for source, pair in zip(sources, pairs, strict=True)
        ]
        return cls(scenes, sources, wanted)

    def kept_boxes(self, margin: int = 4) -> torch.Tensor:
        """0 where the second entity and a margin around it lie, else 1, float32 [n, 1, 64, 64]."""
        masks = np.ones((len(self.scenes), 1, world.SIDE, world.SIDE), np.float32)
        for mask, scene in zip(masks, self.scenes, strict=True):
            rows, columns = np.nonzero(world.coverage(scene.object))
            top, left = max(rows.min() - margin, 0), max(columns.min() - margin, 0)
            mask[0, top : rows.max() + margin + 1, left : columns.max() + margin + 1] = 0
        return torch.from_numpy(masks)

    def measured(self, pictures: np.ndarray) -> dict[str, list[float]]:
        """A 0/1 a picture for each of MEASURES; pictures: uint8 [n, 64, 64, 3]."""
        found = {name: [] for name in MEASURES}
        for picture, scene, source, wanted in zip(pictures, self.scenes, self.sources, self.wanted, strict=True):
            seen = judge.look(picture)
            found["relation"].append(seen.holds(wanted, *scene.pair))
            found["entities"].append(all(map(seen.has, scene.pair)))
            found["background"].append(seen.background == scene.background)
            found["still the old"].append(seen.holds(source, *scene.pair))
            found["all three"].append(found["relation"][-1] and found["background"][-1])
        return {name: [float(value) for value in values] for name, values in found.items()}


class Editor:
    """Changes the pictures with the host's samplers. learned: relation -> vectors by encoder."""

    def __init__(self, runner: Runner, pictures: Pictures, learned: dict[str, dict[str, torch.Tensor]]):
        self.studio, self.pictures = runner.studio, pictures
        self.clip = self.studio.clip
        for i, relation in enumerate(RELATIONS):
            self.clip = self.studio.host.with_relation(self.clip, f"<R{i}>", learned[relation])
        scale = self.studio.form.side // world.SIDE
        drawn = np.stack([world.render(scene, scale) for scene in pictures.scenes]).astype(np.float32) / 255
        with torch.inference_mode():
            self.latents = self.studio.vae.encode(torch.from_numpy(drawn))

    def prompts(self, word: str) -> list[str]:
        """word: "word" for the relation's own, "<R>" for the learned, else what stands between the entities."""
        spoken = {"word": lambda wanted: wanted, "<R>": lambda wanted: f"<R{RELATIONS.index(wanted)}>"}
        say = spoken.get(word, lambda wanted: word)
        pairs = (scene.pair for scene in self.pictures.scenes)
        return [f"{a} {say(wanted)} {b}" for (a, b), wanted in zip(pairs, self.pictures.wanted, strict=True)]

    @torch.inference_mode()
    def change(self, way: Way, word: str) -> np.ndarray:
        """The changed pictures, uint8 [n, 64, 64, 3]."""
        nothing = torch.zeros_like(self.latents)
        noise = self.studio.noise(range(100, 100 + len(nothing)))
        start, mask, levels = self.latents, None, self._levels(way.strength)
        if way.kind == "unsampling":
            rising = levels.flip(0).clone()
            rising[0] = 1e-4  # what the host's FlipSigmas begins with
            start, noise = self._sample("and", nothing, start, rising, cfg=1.0), nothing
        if way.kind == "mask":
            mask = self.pictures.kept_boxes()
        return self.studio.decode(self._sample(word, noise, start, levels, CFG, mask))

    def _levels(self, strength: float) -> torch.Tensor:
        """The sigmas that the host's KSampler goes through with this `denoise`."""
        import comfy.samplers

        sampling = self.studio.model.get_model_object("model_sampling")
        return comfy.samplers.calculate_sigmas(sampling, "normal", int(STEPS / strength))[-(STEPS + 1) :]

    def _sample(self, word, noise, start, levels, cfg, mask=None) -> torch.Tensor:
        import comfy.samplers

        guider = comfy.samplers.CFGGuider(self.studio.model)
        guider.set_conds(*(self.studio.encode(texts, self.clip) for texts in (self.prompts(word), [""])))
        guider.set_cfg(cfg)
        euler = comfy.samplers.sampler_object("euler")
        return guider.sample(noise, start, euler, levels, denoise_mask=mask, disable_pbar=True, seed=0)


def rows(editor: Editor) -> Iterator[tuple[str, dict[str, list[float]]]]:
    """(way, a 0/1 a picture by measure): every way with the word and with what was learned."""
    for way in WAYS:
        for word in ("word", "<R>"):
            pictures = editor.change(way, word)
            yield f"{way.kind} {way.strength:g}, {word}", editor.pictures.measured(pictures)


def markdown(found: dict[str, dict[str, list[float]]]) -> str:
    """The Markdown of docs/editing.md."""
    lines = [
        "# Another relation in an existing picture",
        "",
        f"`python -m lab.bench.editing`, on the miniature: {SCENES} drawn scenes, from one of",
        f"{', '.join(RELATIONS)} to another; {STEPS} steps of euler, cfg {CFG:g}; `<R>`: what the preset fast learned",
        "from 8 drawings. Shares of pictures in %, with a bootstrap 95% interval.",
        "",
        *(f"- *{name}*: {meaning}" for name, meaning in MEASURES.items()),
        "",
        "Image to image at 1 draws anew: what it keeps is chance.",
        "",
    ]
    return "\n".join([*lines, markdown_table(MEASURES, _cells(found)), ""])


def _cells(found) -> Iterator[list[str]]:
    whole, *parts = MEASURES
    for name, measured in found.items():
        yield [name, percent(interval([measured[whole]])), *(f"{100 * np.mean(measured[part]):.0f}" for part in parts)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--publish", action="store_true", help="write the table to docs/editing.md")
    publish = parser.parse_args().publish
    runner, learned = Runner(), {}
    for relation in RELATIONS:
        exemplars, _, _ = material("full", relation, 0)
        learned[relation] = runner.learn("fast", exemplars, 0).relation.vectors
    found = {}
    for name, measured in rows(Editor(runner, Pictures.drawn(SCENES), learned)):
        found[name] = measured
        print(name, {key: round(float(np.mean(values)), 2) for key, values in measured.items()}, flush=True)  # noqa: T201
    write_page("editing.md", markdown(found), publish)


if __name__ == "__main__":
    main()
