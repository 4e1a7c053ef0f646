"""Reports of `make benchmark` and `make speed` as Markdown."""

from lab.miniature.judge import MEASURES


def of_benchmark(report):
    """The Markdown of docs/benchmark.md."""
    about, mending = report["about"], report["stochastic"]["drawing"]
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
        lines += [f"{mending['sampler']}, {mending['scheduler']}, {mending['steps']} steps, cfg {mending['cfg']}:"]
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


def _section(found):
    return ["", *_shares(found["summary"]["full"]), *_beside(found["differences"])]


def _shares(methods):
    return ["| | relation | entities | leakage | pictures |", "|---|---|---|---|---|"] + [
        f"| {method} | {' | '.join(_percent(row[name]) for name in MEASURES)} | {row['pictures']} |"
        for method, row in methods.items()
    ]


def _beside(of_captions):
    return ["", "| captions | | relation | entities | leakage |", "|---|---|---|---|---|"] + [
        f"| {captions} | {method} | {' | '.join(_points(row[name]) for name in MEASURES)} |"
        for captions, methods in of_captions.items()
        for method, row in methods.items()
    ]


def _percent(row):
    return f"{100 * row['mean']:.0f}% ({100 * row['low']:.0f} to {100 * row['high']:.0f})"


def _points(row):
    return f"{100 * row['mean']:+.1f} ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"


def of_speed(report):
    """The Markdown of docs/speed.md."""
    memory, parts, full = report["memory_growth"], report["floor_parts"], report["full_size"]
    batch = ", ".join(f"{size}: {1000 * seconds:.0f} ms" for size, seconds in report["seconds_by_batch"].items())
    rows = [
        ("a relation beside the host's own encode and sample", f"{100 * report['use_overhead']:+.1f}%", "at most 2%"),
        ("added to the host's start", f"{report['import_seconds']:.3f} s", "at most 0.1 s"),
        (
            f"memory from update {memory['updates'] // 10} to {memory['updates']}",
            f"{100 * memory['share']:+.1f}%",
            "flat",
        ),
        ("a step of one batch, by pictures in it", batch, "linear"),
    ]
    lines = [
        "# Speed",
        "",
        f"`make speed` on {report['device']}, torch {report['torch']}; {report['batch']}, medians of "
        f"{report['rounds'] - 1} rounds in turns.",
        "",
        "## The miniature, 64 x 64 pictures",
        "",
        *_compared(report),
        "",
        f"On pictures this small the text encoder takes {100 * parts['text encoder'] / sum(parts.values()):.0f}% of "
        "the bare networks' time, and both loops go through it alike: what is saved on the VAE and the embedding table "
        "counts for less than on pictures of 512 x 512. `auto` computes as ComfyUI loaded the model, in float32 on a "
        "CPU.",
        "",
        "| | measured | goal |",
        "|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]
    if full:
        lines += [
            f"## Stable Diffusion 1.5's architecture, {full['side']} x {full['side']}",
            "",
            *_compared(full),
            "",
        ]
    left_out = ["a GPU, its memory, fp16"] if report["device"].endswith("CPU cores") else []
    left_out += [] if "bf16" in report["by_precision"] else ["bf16, which this processor would have to emulate"]
    left_out += [] if full else ["a full-size Stable Diffusion"]
    return "\n".join([*lines, *([f"Not measured: {', '.join(left_out)}.", ""] if left_out else [])])


def _compared(found):
    """The tables of `compare`."""
    rows = [
        ("our step in fp32 beside the bare networks", f"{found['overhead_floor']:.2f} x", "at most 1.10 x"),
        (
            "the published step beside them: the most that any loop in fp32 could gain",
            f"{found['ratio_floor']:.2f} x",
            "",
        ),
        *((f"of the bare step: {name}", f"{1000 * s:.0f} ms", "") for name, s in found["floor_parts"].items()),
    ]
    return [
        "Beside the published loop (fp32), by `precision`:",
        "",
        "| | steps a second | peak memory | largest difference of the loss |",
        "|---|---|---|---|",
        *(
            f"| {kind} | {row['ratio_published']:.1f} x | {row['peak_memory_ratio']:.2f} x | "
            f"{row['loss_difference']:.1e} |"
            for kind, row in found["by_precision"].items()
        ),
        "| goal | at least 3 x | at most 0.6 x | rounding, in fp32 |",
        "",
        "| | measured | goal |",
        "|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
