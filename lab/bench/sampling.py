"""What the focal scheduler, the focal guider and the strength of a relation buy, on the miniature.

`python -m lab.bench.sampling` draws with the relations that the benchmark learned (preset balanced) and writes
build/benchmark/sampling.json and .md; it goes on where it was stopped. `--publish` writes docs/sampling.md too.
`python -m lab.bench.sampling --samplers` compares the focal schedule in each of the host's samplers instead, in
build/benchmark/samplers.md and with `--publish` in docs/samplers.md.
"""

import argparse
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

from lab.bench import methods
from lab.bench.markdown import markdown_table, percent, write_page
from lab.bench.run import FOLDER, Runner, material
from lab.harness.studio import Studio
from lab.miniature import judge
from lab.miniature.exemplars import unseen_pairs
from lab.miniature.judge import MEASURES
from reversion_core.report.intervals import Interval, interval
from reversion_core.store.files import write_whole

PATH = FOLDER / "sampling.json"
CFG, STEPS = methods.SAMPLING["cfg"], methods.SAMPLING["steps"]


def settings() -> Iterator[tuple[tuple[str, str, str], dict[str, Any]]]:
    """(table, row, column) -> what differs from an ordinary KSampler with the relation as learned."""
    for steps in (4, 6, 8, 12, 20, 50):
        for alpha in (0.0, 0.5, 1.0):
            yield ("scheduler", f"{steps} steps", f"alpha {alpha:g}"), {"steps": steps, "alpha": alpha}
    for share in (0.5, 1.0, 1.5, 2.0, 3.0):
        for alpha in (0.0, 0.5, 1.0):
            yield ("guider", f"strength {share:g} x cfg", f"alpha {alpha:g}"), {"guidance": (share * CFG, alpha)}
    for strength in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5):
        yield ("relation strength", f"{strength:g}", "all"), {"relation_strength": strength}


def score(
    runner: Runner,
    learned: dict[str, tuple],
    steps: int = STEPS,
    alpha: float = 0.0,
    guidance: tuple[float, float] | None = None,
    relation_strength: float = 1.0,
) -> dict[str, Interval]:
    """The measures of `judge.measures` over every relation; learned: relation -> (scenes, Relation).

    alpha: of the focal scheduler; guidance: (strength, alpha) of the focal guider, None for ordinary guidance.
    """
    record = {name: [] for name in MEASURES}
    for relation, (scenes, found) in learned.items():
        pairs = unseen_pairs(runner.pairs, scenes)
        vectors = runner.studio.host.at_strength(found, runner.studio.clip, relation_strength)
        given = {"steps": steps, "cfg": CFG, "alpha": alpha}
        if guidance is not None:
            given["guidance"] = ([f"{a} and {b}" for a, b in pairs], *guidance)
        shown = {entity for scene in scenes for entity in scene.pair}
        pictures = runner.draw("<R>", pairs, vectors, **given)
        for name, values in judge.measures(pictures, pairs, relation, shown).items():
            record[name].append(values)
    return {name: interval(values) for name, values in record.items()}


def markdown(done: list[tuple], pairs: int) -> str:
    """The Markdown of docs/sampling.md; done: ((table, row, column), the `score`) in the order of `settings`."""
    lines = [
        "# Sampling",
        "",
        f"`python -m lab.bench.sampling --pairs {pairs}`, on the miniature: relation accuracy (bootstrap",
        f"95% interval) / entity accuracy in %, over {len(methods.RELATIONS)} relations learned with the preset",
        f"balanced and {pairs} unseen pairs each; euler, cfg {CFG:g}, {STEPS} steps but where given.",
    ]
    tables = {}
    for (table, row, column), result in done:
        tables.setdefault(table, {}).setdefault(row, {})[column] = result
    for table, rows in tables.items():
        columns = next(iter(rows.values()))
        cells = ([row, *map(_accuracies, of_row.values())] for row, of_row in rows.items())
        lines += ["", f"## {table.capitalize()}", "", markdown_table(columns, cells)]
    return "\n".join(lines) + "\n"


def _accuracies(cell: dict[str, Interval]) -> str:
    return f"{percent(cell['relation'])} / {100 * cell['entity']['mean']:.0f}"


def spreads(
    studio: Studio, schedules: dict[str, tuple[float, str | None]], steps: int = 20
) -> Iterator[tuple[str, dict[str, float]]]:
    """(sampler, {column: standard deviation of the latents}) for each of the host's samplers: too much is noise left
    over or an overshoot. schedules: column -> (alpha, the host's scheduler or None), see `Studio.sample`."""
    import comfy.samplers

    prompts = ["red circle and blue square", "green triangle and red square"]
    for sampler in comfy.samplers.KSampler.SAMPLERS:
        yield (
            sampler,
            {
                column: float(studio.sample(prompts, (1, 2), steps=steps, alpha=a, sampler=sampler, scheduler=s).std())
                for column, (a, s) in schedules.items()
            },
        )


def compare_samplers(publish: bool) -> None:
    schedules = {name: (0.0, name) for name in ("normal", "karras")}
    schedules |= {f"alpha {alpha:g}": (alpha, None) for alpha in (0.25, 0.5, 0.75, 1.0)}
    lines = [
        "# The focal schedule in every sampler",
        "",
        "`python -m lab.bench.sampling --samplers`, on the miniature: standard deviation of two latents drawn with 20",
        "steps and cfg 4. A good picture has about 6; much more is an overshoot, or noise that is left over.",
        "",
    ]
    rows, page = [], ""
    for sampler, cells in spreads(Studio(), schedules):
        rows.append([sampler, *(f"{cell:.3g}" for cell in cells.values())])
        logging.info(" | ".join(rows[-1]))
        page = "\n".join([*lines, markdown_table(schedules, rows), ""])
        write_page("samplers.md", page)
    write_page("samplers.md", page, publish)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=methods.PAIRS, help="held-out pairs a relation")
    parser.add_argument("--samplers", action="store_true", help="compare the host's samplers")
    parser.add_argument("--publish", action="store_true", help="write the tables to docs")
    arguments = parser.parse_args()
    if arguments.samplers:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
        return compare_samplers(arguments.publish)
    runner = Runner(arguments.pairs)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    learned = {}
    for relation in methods.RELATIONS:
        exemplars, scenes, _ = material("full", relation, 0)
        learned[relation] = scenes, runner.learn("balanced", exemplars, 0).relation
    made = {"pairs": arguments.pairs, "weights": methods.weights()}
    stored = json.loads(PATH.read_text()) if PATH.exists() else {}
    done = stored["done"] if stored and stored["made"] == made else []
    everything = list(settings())
    began = time.monotonic()
    for i, (key, given) in enumerate(everything[len(done) :]):
        done.append((key, score(runner, learned, **given)))
        write_whole(PATH, json.dumps({"made": made, "done": done}).encode())
        left = len(everything) - len(done)
        logging.info("%s; about %.0f min left", " / ".join(key), (time.monotonic() - began) / (i + 1) * left / 60)
    write_page("sampling.md", markdown(done, arguments.pairs), arguments.publish)


if __name__ == "__main__":
    main()
