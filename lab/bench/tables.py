"""The report of `make benchmark` as Markdown."""

from typing import Any

from lab.miniature.judge import MEASURES


def of_benchmark(report: dict[str, Any]) -> str:
    """The Markdown of docs/benchmark.md; report: from `benchmark.write_report`."""
    about, stochastic = report["about"], report["stochastic"]["drawing"]
    lines = [
        "# Benchmark",
        "",
        f"`{about['command']}`, {about['date']}, commit {about['commit']}, {about['hardware']}; "
        f"ComfyUI {about['host']}, miniature {about['weights']}; {about['cells']} cells.",
        "",
        f"{about['relations']} relations, seeds {about['seeds']}, {about['exemplars']} exemplars, {about['pairs']} "
        f"held-out pairs a cell, euler, normal, {about['drawing']['steps']} steps, cfg {about['drawing']['cfg']}. "
        "Shares of pictures with bootstrap 95% intervals (pictures drawn anew within each relation and seed).",
    ]
    measured, wanted = about["cells"].split(" of ")
    if measured != wanted:
        lines += ["", "Not all cells are measured yet: rows with fewer pictures are of fewer relations or seeds, and"]
        lines += ["cannot be compared with the others."]
    for captions, methods in report["summary"].items():
        lines += ["", f"## {captions.capitalize()} captions", "", *_shares(methods)]
    if report["differences"]:
        lines += ["", "## Beside Textual Inversion", "", "Points more or less, picture by picture: the same exemplars,"]
        lines += ["seeds, pairs and noise. An interval without 0 is a difference that chance seldom makes, though of"]
        lines += ["so many intervals some leave out 0 by chance alone."]
        lines += _beside(report["differences"])
    if report["stochastic"]["summary"]:
        lines += ["", "## With a stochastic sampler", "", "The same relations and pairs, full captions, drawn with"]
        sampler = f"{stochastic['sampler']}, {stochastic['scheduler']}"
        lines += [f"{sampler}, {stochastic['steps']} steps, cfg {stochastic['cfg']}:"]
        lines += ["it mends on the way what it drew wrong, so that less of what is counted is the sampler's."]
        lines += _section(report["stochastic"])
    if report["deciding"]["summary"]:
        lines += ["", "## The question of the whole, with more pictures", "", "Drawn as in the section before, with"]
        lines += [f"{report['deciding']['pairs']} pairs a cell and noise that no other section has:"]
        lines += _section(report["deciding"])
    if report["steps"]:
        lines += ["", "## Relation accuracy against training steps", ""]
        steps = sorted({step for row in report["steps"].values() for step in row["steps"]}, key=int)
        lines += [f"| | {' | '.join(steps)} | 95% of the last from step |", "|---" * (len(steps) + 2) + "|"]
        for method, row in report["steps"].items():
            reached = [f"{100 * row['steps'][s]:.0f}" if s in row["steps"] else "" for s in steps]
            lines.append(f"| {method} | {' | '.join(reached)} | {row['reached_at']} |")
    if report["exemplars"]:
        lines += ["", "## Number of exemplars (preset balanced, full captions)", ""]
        lines += ["| exemplars | relation | entities | leakage |", "|---|---|---|---|"]
        lines += [f"| {n} | {' | '.join(_percent(r[m]) for m in MEASURES)} |" for n, r in report["exemplars"].items()]
    return "\n".join(lines) + "\n"


def _section(found: dict[str, Any]) -> list[str]:
    return ["", *_shares(found["summary"]["full"]), *_beside(found["differences"])]


def _shares(methods: dict[str, dict]) -> list[str]:
    return ["| | relation | entities | leakage | pictures |", "|---|---|---|---|---|"] + [
        f"| {method} | {' | '.join(_percent(row[name]) for name in MEASURES)} | {row['pictures']} |"
        for method, row in methods.items()
    ]


def _beside(differences: dict[str, dict]) -> list[str]:
    return ["", "| captions | | relation | entities | leakage |", "|---|---|---|---|---|"] + [
        f"| {captions} | {method} | {' | '.join(_points(row[name]) for name in MEASURES)} |"
        for captions, methods in differences.items()
        for method, row in methods.items()
    ]


def _percent(row: dict[str, float]) -> str:
    return f"{100 * row['mean']:.0f}% ({100 * row['low']:.0f} to {100 * row['high']:.0f})"


def _points(row: dict[str, float]) -> str:
    return f"{100 * row['mean']:+.1f} ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"
