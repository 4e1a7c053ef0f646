"""The reports of `make speed` and `make full-size` as Markdown, and the file in docs/ that holds both."""

from typing import Any

from lab.bench.markdown import markdown_table
from lab.harness import comfyui
from reversion_core.store.files import write_whole

PUBLISHED = comfyui.ROOT / "docs" / "speed.md"
FULL_SIZE_HEADING = "## Full size, through the real server"


def publish_speed(speed: str | None = None, full_size: str | None = None) -> None:
    """Write one of the two sections into docs/speed.md and keep the other."""
    text = PUBLISHED.read_text(encoding="utf-8")
    before, heading, after = text.partition(FULL_SIZE_HEADING)
    sections = (before if speed is None else speed, heading + after if full_size is None else full_size)
    write_whole(PUBLISHED, "\n\n".join(section.strip() for section in sections if section).strip().encode() + b"\n")


def of_full_size(report: dict[str, Any]) -> str:
    """The section of docs/speed.md with a row an architecture; report: from `full_size.main`."""
    architectures = report["architectures"]
    stages = list(next(iter(architectures.values()))["stages"])
    rows = [
        [
            name,
            str(row["side"]),
            row.get("dtype", "float32"),
            row["memory"],
            *(_stage(row["stages"][stage]) for stage in stages),
        ]
        for name, row in architectures.items()
    ]
    hosts = sorted({row["host"] for row in architectures.values()})
    return "\n".join(
        [
            FULL_SIZE_HEADING,
            "",
            f"`make full-size` on {report['device']}, {report['threads']} threads, torch {report['torch']}, ComfyUI "
            f"{', '.join(hosts)}: random weights of the real widths, 2 pictures an update. Time of each stage, and the "
            "peak of the server's resident memory in it. To learn ends in a preview, of 12 steps with guidance.",
            "",
            markdown_table(["pixels", "weights", "`memory`", *stages], rows),
            "",
        ]
    )


def _stage(found: dict[str, float]) -> str:
    return f"{found['seconds']:.0f} s, {found['peak_rss'] / 1e9:.1f} GB"


def of_speed(report: dict[str, Any]) -> str:
    """The first part of docs/speed.md; report: from `speed.measure`."""
    parts, full = report["bare_parts"], report["full_size"]
    lines = [
        "# Speed",
        "",
        f"`{report['command']}` on {report['device']}, {report['threads']} threads, torch {report['torch']}; "
        f"{report['batch']}, medians of {report['rounds'] - 1} rounds in turns.",
        "",
        "## The miniature, 64 x 64 pictures",
        "",
        *_compared(report, "at least 3 x", "at most 1.10 x"),
        "",
        f"On pictures this small the text encoder takes {100 * parts['text encoder'] / sum(parts.values()):.0f}% of "
        "the bare networks' time, and both loops go through it alike: what is saved on the VAE and the embedding table "
        "counts for less than on pictures of 512 x 512. `auto` computes as ComfyUI loaded the model, in float32 on a "
        "CPU.",
        "",
        markdown_table(["measured", "goal"], _beside_training(report)),
        "",
    ]
    if full:
        lines += [
            f"## Stable Diffusion 1.5's architecture, {full['side']} x {full['side']}",
            "",
            f"Random weights; {full['batch']}, medians of {full['rounds'] - 1} rounds in turns.",
            "",
            *_compared(full, f"at least {full['ratio_without_needless']:.2f} x", "at most 1.05 x"),
            "",
        ]
    if left_out := _not_measured(report):
        lines += [f"Not measured: {', '.join(left_out)}.", ""]
    return "\n".join(lines)


def _beside_training(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What is measured beside the steps, as rows: what it is, how much, its goal."""
    memory = report["memory_growth"]
    batch = ", ".join(f"{size}: {1000 * seconds:.0f} ms" for size, seconds in report["seconds_by_batch"].items())
    return [
        ("a relation beside the host's own encode and sample", f"{100 * report['use_overhead']:+.1f}%", "at most 2%"),
        ("added to the host's start", f"{report['import_seconds']:.3f} s", "at most 0.1 s"),
        (
            f"memory from update {memory['updates'] // 10} to {memory['updates']}",
            f"{100 * memory['share']:+.1f}%",
            "flat",
        ),
        ("a step of one batch, by pictures in it", batch, "linear"),
    ]


def _not_measured(report: dict[str, Any]) -> list[str]:
    left_out = ["a GPU, its memory, fp16"] if report["device"].endswith("CPU cores") else []
    left_out += [] if "bf16" in report["by_precision"] else ["bf16, which this processor would have to emulate"]
    return left_out + ([] if report["full_size"] else ["a full-size Stable Diffusion"])


def _compared(found: dict[str, Any], speed_goal: str, overhead_goal: str) -> list[str]:
    """The tables of `speed.compare`."""
    rows = [
        ("our step in fp32 beside the bare networks", f"{found['overhead_bare']:.2f} x", overhead_goal),
        (
            "the published step beside them: the most that any loop in fp32 could gain",
            f"{found['ratio_bare']:.2f} x",
            "",
        ),
        (
            "the published step beside itself without the VAE and the table, which ours does without",
            f"{found['ratio_without_needless']:.2f} x",
            "",
        ),
        *((f"of the bare step: {name}", f"{1000 * s:.0f} ms", "") for name, s in found["bare_parts"].items()),
        *((f"of the published step: {name}", f"{1000 * s:.0f} ms", "") for name, s in found["published_parts"].items()),
    ]
    by_precision = [
        [kind, f"{row['ratio_published']:.1f} x", f"{row['peak_memory_ratio']:.2f} x", f"{row['loss_difference']:.1e}"]
        for kind, row in found["by_precision"].items()
    ]
    by_precision.append(["goal", speed_goal, "at most 0.6 x", "rounding, in fp32"])
    return [
        "Beside the published loop (fp32), by `precision`:",
        "",
        markdown_table(["steps a second", "peak memory", "largest difference of the loss"], by_precision),
        "",
        markdown_table(["measured", "goal"], rows),
    ]
