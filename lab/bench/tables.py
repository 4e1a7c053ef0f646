"""The report of `make benchmark` as Markdown."""

from typing import Any

from lab.bench.intervals import ADVICES
from lab.bench.markdown import markdown_table, percent
from lab.bench.run import MEASURES

TITLES = {
    "relation": "relation",
    "entity": "entities",
    "leakage": "leakage",
    "leakage_open": "leakage, nothing named",
    "background": "shared background",
}
CONDITIONS = {
    "full": "captions name colours and shapes, every exemplar looks different",
    "coarse": "captions name shapes only, every exemplar looks different",
    "confounded": "captions name shapes only, all exemplars share two colours and a background",
    "one picture": "the same, and there is a single exemplar",
    "wordless": "words say a part of the relation only, not from which side",
    "unnamed": "relations that the model has drawn, and no word says even a part of them",
}


def of_benchmark(report: dict[str, Any]) -> str:
    """The tables of the benchmark as Markdown; report: from `benchmark.write_report`."""
    about = report["about"]
    lines = [
        "# Benchmark: tables",
        "",
        f"`{about['command']}`, {about['date']}; commits {_all(report, 'commit')}; {_all(report, 'hardware')}; ComfyUI "
        f"{about['host']}, miniature {about['weights']}; {about['cells']} cells.",
        "",
        f"{about['exemplars']} exemplars but for one condition, {about['pairs']} held-out pairs a training, euler, "
        f"normal, {about['drawing']['steps']} steps, cfg {about['drawing']['cfg']}. Shares of pictures with bootstrap "
        "95% intervals that redraw trainings (relation x seed) and then pictures; they say nothing of other relations. "
        f"All methods compute in {about['precision']}, so that they take half of the time.",
    ]
    for condition, methods in report["summary"].items():
        lines += ["", f"## {condition.capitalize()}: {CONDITIONS[condition]}", "", _shares(methods)]
        lines += ["", *_by_relation(report["relations"][condition])]
    for condition, methods in report["differences"].items():
        lines += ["", f"## {condition.capitalize()}, beside Textual Inversion", "", "Points more or less, training by"]
        lines += ["training: the same exemplars, seeds, pairs and noise.", "", _beside(methods)]
    for condition, methods in report["curves"].items():
        lines += ["", f"## {condition.capitalize()}: relation accuracy by updates, %", ""]
        steps = sorted({step for row in methods.values() for step in row["step"]})
        rows = []
        for method, row in methods.items():
            at = dict(zip(row["step"], row["relation"], strict=True))
            rows.append([method, *(f"{100 * at[s]:.0f}" if s in at else "" for s in steps), str(row["trainings"])])
        lines.append(markdown_table([*map(str, steps), "trainings"], rows))
    if report["verdicts"]:
        lines += ["", "## The verdict", "", _VERDICT, "", _correlations(report["verdicts"])]
        lines += ["", _advices(report["advices"])]
    return "\n".join(lines) + "\n"


def _all(report: dict[str, Any], name: str) -> str:
    """What the cells of a report were made with."""
    return ", ".join(sorted({record["made"][name] for record in report["cells"].values()}))


_VERDICT = """Rank correlation, over trainings, of how much of what `<R>` gains is *outside* of what prepositions can
say with what was measured; below it, to how many trainings the verdict gives which advice."""


def _correlations(verdicts: dict[str, dict]) -> str:
    rows = (
        [f"{condition}, {method}", str(row["trainings"])]
        + [f"{row[name]:+.2f}" if name in row else "" for name in MEASURES]
        for condition, methods in verdicts.items()
        for method, row in methods.items()
    )
    return markdown_table(["trainings", *(TITLES[name] for name in MEASURES)], rows)


def _advices(advices: dict[str, dict]) -> str:
    rows = (
        [f"{condition}, {method}", *(str(row[name]) for name in ("trainings", *ADVICES))]
        for condition, methods in advices.items()
        for method, row in methods.items()
    )
    return markdown_table(["trainings", *ADVICES], rows)


def _columns(methods: dict[str, dict]) -> list[str]:
    return [name for name in MEASURES if name in next(iter(methods.values()))]


def _by_relation(methods: dict[str, dict[str, float]]) -> list[str]:
    relations = list(next(iter(methods.values())))
    rows = (
        [method, *(f"{100 * row[r]:.0f}" if r in row else "" for r in relations)] for method, row in methods.items()
    )
    return ["Relation accuracy by relation, %:", "", markdown_table(relations, rows)]


def _shares(methods: dict[str, dict]) -> str:
    columns = _columns(methods)
    rows = (
        [method, *(percent(row[name], "%") for name in columns), str(row["trainings"]), str(row["pictures"])]
        for method, row in methods.items()
    )
    return markdown_table([*(TITLES[name] for name in columns), "trainings", "pictures"], rows)


def _beside(methods: dict[str, dict]) -> str:
    columns = _columns(methods)
    rows = ([method, *(_points(row[name]) for name in columns)] for method, row in methods.items())
    return markdown_table((TITLES[name] for name in columns), rows)


def _points(row: dict[str, float]) -> str:
    return f"{100 * row['mean']:+.1f} ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"
