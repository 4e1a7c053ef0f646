"""Files that are written whole or not at all."""

import os
from pathlib import Path


def write_whole(path, data):
    """Write bytes to a temporary file beside `path` and move it there: a kill in the middle leaves the old file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
