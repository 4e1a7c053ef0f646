"""Markdown that several reports are made of."""

import re
from collections.abc import Iterable


def markdown_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table whose first column has no title. head: the titles of the others; rows: the cells of each."""
    titles = list(head)
    lines = [f"| | {' | '.join(titles)} |", "|---" * (1 + len(titles)) + "|"]
    # Placeholders as code: a bare <R> would be an HTML tag.
    coded = (re.sub(r"(?<!`)<\w+>(?!`)", r"`\g<0>`", " | ".join(row)) for row in rows)
    return "\n".join([*lines, *(f"| {row} |" for row in coded)])
