"""Files that are written whole or not at all."""

import contextlib
import errno
import itertools
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

PARTIAL = ".partial"
LONGEST_LOCK = 20.0  # seconds
SECONDS_PER_DAY = 86_400


def write_whole(path, data: bytes, replace: bool = True):
    """Write bytes as `whole_file` does."""
    with whole_file(path, replace) as file:
        file.write(data)


@contextlib.contextmanager
def whole_file(path, replace: bool = True):
    """A temporary file beside `path`, open to write bytes, that is moved there at the end of the block: a kill or an
    error in the middle leaves the old file. Where that is not to be replaced, raises FileExistsError for one that is
    there, however lately another program put it there.

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
        (os.replace if replace else _move_to_new)(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _move_to_new(partial, path):
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # not every file system has links
        path.open("xb").close()
        os.replace(partial, path)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """A context for reading and writing a file again, in which one program is at a time, on any machine.

    Raises TimeoutError, an OSError, where another is in it for long. What a kill left there counts for half of that.
    """
    lock = path.with_name(f".{path.name[:100]}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + LONGEST_LOCK
    while True:
        try:
            lock.open("x").close()
            break
        except FileExistsError:
            if time.monotonic() > until:
                raise TimeoutError(errno.ETIMEDOUT, "another program is writing it") from None
            if time.time() - changed_at(lock) > LONGEST_LOCK / 2:
                lock.unlink(missing_ok=True)
            time.sleep(0.02)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def numbered(path: Path, ending: str | None = None) -> Iterator[Path]:
    """`path`, then with -2, -3 ... behind its name, without end; ending: what follows that, the suffix by default."""
    path, ending = (path.with_suffix(""), path.suffix) if ending is None else (path, ending)
    numbers = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    yield from (path.with_name(f"{path.name}{number}{ending}") for number in numbers)


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
