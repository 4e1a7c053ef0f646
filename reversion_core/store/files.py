"""Files that are written whole or not at all."""

import contextlib
import itertools
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

PARTIAL = ".partial"
SECONDS_PER_DAY = 86_400


def write_whole(path, data: bytes):
    """Write bytes as `whole_file` does."""
    with whole_file(path) as file:
        file.write(data)


@contextlib.contextmanager
def whole_file(path):
    """A temporary file beside `path`, open to write bytes, that is moved there at the end of the block: a kill or an
    error in the middle leaves the old file.

    Several machines may share the folder, where process ids repeat: the temporary name is random. The bytes are on the
    disk before the file has its name, so that a loss of power leaves no empty one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}{PARTIAL}")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def numbered(path: Path) -> Iterator[Path]:
    """`path`, then with -2, -3 ... behind its name, without end."""
    yield path
    yield from (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))


def check_writable(folder):
    """Raises OSError where files of some size cannot be written to a folder."""
    probe = Path(folder) / f"probe-{secrets.token_hex(8)}"
    try:
        write_whole(probe, b" " * 65536)
    finally:
        probe.unlink(missing_ok=True)


def changed_at(path: Path) -> float:
    """When a file was last changed, in seconds; now where that is not to be seen, as of one that is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def remove_old_partials(folder):
    """Delete temporary files that a kill left in a folder, once they are a day old."""
    for path in Path(folder).glob(f".*{PARTIAL}"):
        if time.time() - changed_at(path) > SECONDS_PER_DAY:
            with contextlib.suppress(OSError):  # another process was faster
                path.unlink()
