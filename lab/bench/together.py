"""Two relations in one picture, learned apart: which of the host's ways says both.

`python -m lab.bench.together` learns "above" and "left of" with the preset fast, and draws pairs in both at once: the
first thing at the upper left of the second. Writes build/benchmark/together.md; `--publish` docs/together.md too.
"""

import argparse

import numpy as np
import torch

from lab.bench import methods
from lab.bench.markdown import markdown_table, percent, write_page
from lab.bench.run import Runner, material
from lab.harness.studio import Studio
from lab.miniature import judge, world
from lab.miniature.exemplars import unseen_pairs
from reversion_core.report.intervals import interval
from reversion_core.store.relation import Relation

FIRST, SECOND, BOTH = "above", "left of", "upper left"
PAIRS = 40
MEASURES = ("both", f"{FIRST} alone", f"{SECOND} alone", "entities")


class Prompts:
    """The conditioning of the pairs, by a way to say two relations at once."""

    def __init__(self, studio: Studio, pairs: list[world.Pair], first: Relation, second: Relation):
        self.studio, self.pairs = studio, pairs
        self.first, self.second = first, second

    def said(self, *words: str, strength: float = 1.0) -> list:
        """Of prompts with words between the two things; strength: of ReVersion Apply Relation."""
        host, clip = self.studio.host, self.studio.clip
        for placeholder, relation in (("<R>", self.first), ("<S>", self.second)):
            clip = host.with_relation(clip, placeholder, host.at_strength(relation, clip, strength))
        return self.studio.encode([f"{a} {' '.join(words)} {b}" for a, b in self.pairs], clip)

    def average(self) -> list:
        ((a, extra),), ((b, _),) = self.said("<R>"), self.said("<S>")
        return [[(a + b) / 2, extra]]

    def in_turns(self, first: str, second: str, change: float) -> list:
        """The first word in the first share of the steps, then the second."""
        ((a, extra),), ((b, more),) = self.said(first), self.said(second)
        return [
            [a, {**extra, "start_percent": 0.0, "end_percent": change}],
            [b, {**more, "start_percent": change, "end_percent": 1.0}],
        ]


def ways(prompts: Prompts) -> dict[str, list]:
    """Way -> conditioning."""
    return {
        "the plain words, one after the other": prompts.said(FIRST, SECOND),
        "the plain words with a comma": prompts.said(FIRST + ",", SECOND),
        "<R> <S>": prompts.said("<R>", "<S>"),
        "<S> <R>": prompts.said("<S>", "<R>"),
        "<R> and <S>": prompts.said("<R>", "and", "<S>"),
        "<R> <S>, strength 0.7": prompts.said("<R>", "<S>", strength=0.7),
        "<R> <S>, strength 1.3": prompts.said("<R>", "<S>", strength=1.3),
        "ConditioningAverage": prompts.average(),
        "ConditioningCombine": prompts.said("<R>") + prompts.said("<S>"),
        "<R>, then <S> from 30% on": prompts.in_turns("<R>", "<S>", 0.3),
        "<R>, then <S> from 50% on": prompts.in_turns("<R>", "<S>", 0.5),
        "<S>, then <R> from 30% on": prompts.in_turns("<S>", "<R>", 0.3),
        "<S>, then <R> from 50% on": prompts.in_turns("<S>", "<R>", 0.5),
        "<R> alone": prompts.said("<R>"),
        "<S> alone": prompts.said("<S>"),
    }


@torch.inference_mode()
def measured(studio: Studio, pairs: list[world.Pair], positive: list) -> dict[str, list[float]]:
    """A 0/1 a picture for each of MEASURES."""
    import comfy.sample

    noise = studio.noise(range(100, 100 + len(pairs)))
    negative = studio.encode([""] * len(pairs))
    drawn = comfy.sample.sample(
        studio.model, noise, methods.SAMPLING["steps"], methods.SAMPLING["cfg"], "euler", "normal",
        positive, negative, torch.zeros_like(noise), disable_pbar=True, seed=0,
    )  # fmt: skip
    found = {name: [] for name in MEASURES}
    for picture, pair in zip(studio.decode(drawn), pairs, strict=True):
        seen = judge.look(picture)
        values = (seen.sides.get(pair) == BOTH, seen.holds(FIRST, *pair), seen.holds(SECOND, *pair))
        for name, value in zip(MEASURES, (*values, all(map(seen.has, pair))), strict=True):
            found[name].append(float(value))
    return found


def markdown(found: dict[str, dict[str, list[float]]]) -> str:
    """The Markdown of docs/together.md."""
    lines = [
        "# Two relations in one picture",
        "",
        f"`python -m lab.bench.together`, on the miniature, which draws two things: `<R>` is *{FIRST}* and `<S>` is",
        f"*{SECOND}*, each learned with the preset fast from 8 drawings of its own. {PAIRS} pairs that no exemplar",
        f"shows; *both*: the first thing stands at the {BOTH} of the second (bootstrap 95% interval). Shares of",
        "pictures in %.",
        "",
    ]
    rows = []
    for way, values in found.items():
        shares = [f"{100 * np.mean(values[name]):.0f}" for name in MEASURES[1:]]
        rows.append([way, percent(interval([values["both"]])), *shares])
    return "\n".join([*lines, markdown_table(MEASURES, rows), ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--publish", action="store_true", help="write the table to docs/together.md")
    publish = parser.parse_args().publish
    runner, learned, shown = Runner(), [], []
    for relation in (FIRST, SECOND):
        exemplars, scenes, _ = material("full", relation, 0)
        learned.append(runner.learn("fast", exemplars, 0).relation)
        shown += scenes
    pairs, found = unseen_pairs(PAIRS, shown), {}
    for way, positive in ways(Prompts(runner.studio, pairs, *learned)).items():
        found[way] = measured(runner.studio, pairs, positive)
        print(way, {name: round(float(np.mean(values)), 2) for name, values in found[way].items()}, flush=True)  # noqa: T201
    write_page("together.md", markdown(found), publish)


if __name__ == "__main__":
    main()
