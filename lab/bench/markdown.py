"""What the pages of several reports are made of, and where they are written."""

import re
from collections.abc import Iterable

from lab.bench.run import FOLDER
from lab.harness import comfyui
from reversion_core.report.intervals import Interval
from reversion_core.store.files import write_whole


def markdown_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table whose first column has no title. head: the titles of the others; rows: the cells of each."""
    titles = list(head)
    lines = [f"| | {' | '.join(titles)} |", "|---" * (1 + len(titles)) + "|"]
    # Placeholders as code: a bare <R> would be an HTML tag.
    coded = (re.sub(r"(?<!`)<\w+>(?!`)", r"`\g<0>`", " | ".join(row)) for row in rows)
    return "\n".join([*lines, *(f"| {row} |" for row in coded)])


def percent(found: Interval, sign: str = "") -> str:
    """A share and its interval, such as "92 (80 to 97)"; sign: behind the share."""
    return f"{100 * found['mean']:.0f}{sign} ({100 * found['low']:.0f} to {100 * found['high']:.0f})"


def write_page(name: str, text: str, publish: bool = False) -> None:
    """Write a page to build/benchmark/NAME, and to docs/NAME where it is published."""
    for folder in (FOLDER, comfyui.ROOT / "docs") if publish else (FOLDER,):
        write_whole(folder / name, text.encode())
