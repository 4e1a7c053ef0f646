"""Files that are written whole or not at all."""

import os
import platform
import uuid
from pathlib import Path


def write_whole(path, data):
    """Write bytes to a temporary file beside `path` and move it there: a kill in the middle leaves the old file.

    Several machines may share the folder, where process ids repeat: the temporary name is random. The bytes are on the
    disk before the file has its name, so that a loss of power leaves no empty one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{platform.node()[:20]}-{uuid.uuid4().hex[:12]}.partial")
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
