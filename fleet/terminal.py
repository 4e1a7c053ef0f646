"""Texts of hosts and files on the user's terminal: whatever they hold, they are shown and never obeyed."""

import sys

LONGEST = 2000  # characters of one message


def printable(text: object, encoding: str | None = None) -> str:
    """A text with everything escaped that a terminal would not show as it stands: control and escape sequences, marks
    that turn the direction of writing, lone surrogates, and characters that are not in `encoding`. Line ends stay."""
    shown = str(text)
    if len(shown) > LONGEST:
        shown = f"{shown[:LONGEST]} ... ({len(shown)} characters)"
    shown = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in shown)
    encoding = encoding or "utf-8"
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def say(text: object) -> None:
    """Print a message above the progress bar, if there is one."""
    from tqdm import tqdm

    tqdm.write(printable(text, sys.stdout.encoding))


def complain(text: object) -> None:
    """Print an error on standard error."""
    print(f"fleet: {printable(text, sys.stderr.encoding)}", file=sys.stderr)  # noqa: T201
