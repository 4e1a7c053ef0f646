"""Files that are written whole or not at all."""

import contextlib
import errno
import itertools
import logging
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

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
    _make_folder(path.parent)
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
        try:
            os.replace(partial, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _make_folder(folder):
    """Make a folder with those above it. Raises NotADirectoryError where a file or a link to nothing has its name."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from error


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """A context for reading and writing a file again, in which one program is at a time; a kill ends it too.

    Raises filelock's Timeout, an OSError, where another is in it for long. A disk that has no locks does without.
    """
    _make_folder(path.parent)
    held = FileLock(path.with_name(f".{path.name[:100]}.lock"), timeout=LONGEST_LOCK, mode=0o666)
    try:
        held.acquire()
    except Timeout:
        raise
    except (OSError, NotImplementedError) as error:
        logging.warning("ReVersion: %s is written without a lock (%s)", path, error)
    try:
        yield
    finally:
        held.release()


def numbered(path: Path, ending: str | None = None) -> Iterator[Path]:
    """`path`, then with -2, -3 ... behind its name, without end; ending: what follows that, the suffix by default."""
    path, ending = (path.with_suffix(""), path.suffix) if ending is None else (path, ending)
    numbers = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    return (path.with_name(f"{path.name}{number}{ending}") for number in numbers)


def check_writable(folder):
    """Raises OSError where files of some size cannot be written to a folder."""
    probe = Path(folder) / f"probe-{secrets.token_hex(8)}"
    try:
        write_whole(probe, b" " * 65536)
    finally:
        probe.unlink(missing_ok=True)


def states_of(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """What tells whether files have changed: name, size and time of each that is there, in the order of their names."""
    states = []
    for path in sorted(paths):
        with contextlib.suppress(OSError):  # a link to nothing: whoever opens it says so
            status = os.stat(path)
            states.append((path.name, status.st_size, status.st_mtime_ns))
    return states


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
