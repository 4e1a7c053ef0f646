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

from lab.bench import benchmark
from lab.harness import comfyui
from lab.harness.studio import Studio
from lab.miniature.exemplars import unseen_pairs
from lab.miniature.judge import MEASURES
from reversion_core.store.files import write_whole

PATH = comfyui.ROOT / "build" / "benchmark" / "sampling.json"
CFG, STEPS = benchmark.PLAIN["cfg"], benchmark.PLAIN["steps"]


def settings():
    """(table, row, column) -> what differs from an ordinary KSampler with the relation as learned."""
    for steps in (4, 6, 8, 12, 20, 50):
        for alpha in (0.0, 0.5, 1.0):
            yield ("scheduler", f"{steps} steps", f"alpha {alpha:g}"), {"steps": steps, "alpha": alpha}
    for share in (0.5, 1.0, 1.5, 2.0, 3.0):
        for alpha in (0.0, 0.5, 1.0):
            yield ("guider", f"strength {share:g} x cfg", f"alpha {alpha:g}"), {"guidance": (share * CFG, alpha)}
    for strength in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5):
        yield ("relation strength", f"{strength:g}", "all"), {"relation_strength": strength}


def score(bench, found, steps=STEPS, alpha=0.0, guidance=None, relation_strength=1.0):
    """DESIGN's measures, a 0/1 a picture, over every relation; found: relation -> (scenes, Relation)."""
    record = {name: [] for name in MEASURES}
    core = bench.studio.host
    for relation, (scenes, learned) in found.items():
        pairs = unseen_pairs(bench.pairs, scenes)
        vectors = core.at_strength(learned, bench.studio.clip, relation_strength)
        given = {"steps": steps, "cfg": CFG, "alpha": alpha}
        if guidance is not None:
            given["guidance"] = ([f"{a} and {b}" for a, b in pairs], *guidance)
        measured = bench.measure(relation, "<R>", pairs, vectors, scenes, **given)[0]
        for name, values in measured.items():
            record[name].append(values)
    return {name: benchmark.interval(values) for name, values in record.items()}


def markdown(done, pairs):
    lines = [
        "# Sampling",
        "",
        f"`python -m lab.bench.sampling --pairs {pairs}`, on the miniature: relation accuracy (bootstrap",
        f"95% interval) / entity accuracy in %, over {len(benchmark.RELATIONS)} relations learned with the preset",
        f"balanced and {pairs} unseen pairs each; euler, cfg {CFG:g}, {STEPS} steps but where given.",
    ]
    tables = {}
    for (table, row, column), result in done:
        tables.setdefault(table, {}).setdefault(row, {})[column] = result
    for table, rows in tables.items():
        columns = list(next(iter(rows.values())))
        lines += ["", f"## {table.capitalize()}", "", f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        for row, cells in rows.items():
            numbers = (
                f"{100 * cell['relation']['mean']:.0f} ({100 * cell['relation']['low']:.0f} to "
                f"{100 * cell['relation']['high']:.0f}) / {100 * cell['entity']['mean']:.0f}"
                for cell in cells.values()
            )
            lines.append(f"| {row} | {' | '.join(numbers)} |")
    return "\n".join(lines) + "\n"


def spreads(studio, schedules, steps=20):
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


def compare_samplers(publish):
    schedules = {name: (0.0, name) for name in ("normal", "karras")}
    schedules |= {f"alpha {alpha:g}": (alpha, None) for alpha in (0.25, 0.5, 0.75, 1.0)}
    lines = [
        "# The focal schedule in every sampler",
        "",
        "`python -m lab.bench.sampling --samplers`, on the miniature: standard deviation of two latents drawn with 20",
        "steps and cfg 4. A good picture has about 6; much more is an overshoot, or noise that is left over.",
        "",
        f"| | {' | '.join(schedules)} |",
        "|---" * (len(schedules) + 1) + "|",
    ]
    for sampler, cells in spreads(Studio(), schedules):
        lines.append(f"| {sampler} | {' | '.join(f'{cell:.3g}' for cell in cells.values())} |")
        logging.info(lines[-1])
        write_whole(PATH.with_name("samplers.md"), ("\n".join(lines) + "\n").encode())
    if publish:
        write_whole(comfyui.ROOT / "docs" / "samplers.md", ("\n".join(lines) + "\n").encode())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=benchmark.PAIRS, help="held-out pairs a relation")
    parser.add_argument("--samplers", action="store_true", help="compare the host's samplers")
    parser.add_argument("--publish", action="store_true", help="write the tables to docs")
    arguments = parser.parse_args()
    if arguments.samplers:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
        return compare_samplers(arguments.publish)
    bench = benchmark.Bench(arguments.pairs)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    found = {}
    for relation in benchmark.RELATIONS:
        material, scenes = benchmark.exemplars(relation)
        found[relation] = scenes, bench.learn("balanced", material, 0).relation
    done = json.loads(PATH.read_text()) if PATH.exists() else []
    everything = list(settings())
    began = time.monotonic()
    for i, (key, given) in enumerate(everything[len(done) :]):
        done.append((key, score(bench, found, **given)))
        write_whole(PATH, json.dumps(done).encode())
        left = len(everything) - len(done)
        logging.info("%s; about %.0f min left", " / ".join(key), (time.monotonic() - began) / (i + 1) * left / 60)
    table = markdown(done, arguments.pairs).encode()
    write_whole(PATH.with_suffix(".md"), table)
    if arguments.publish:
        write_whole(comfyui.ROOT / "docs" / "sampling.md", table)


if __name__ == "__main__":
    main()
