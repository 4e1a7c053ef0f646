"""Markdown that several reports are made of."""

from collections.abc import Iterable


def markdown_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table whose first column has no title. head: the titles of the others; rows: the cells of each."""
    titles = list(head)
    lines = [f"| | {' | '.join(titles)} |", "|---" * (1 + len(titles)) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
