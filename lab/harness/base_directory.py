"""Where the base directories of hosts lie: outside the checkout, in a cache folder of this user and this checkout.

A base directory links back to what the pack ships. Inside the checkout, a recursive search would find the pack twice.
`python -m lab.harness.base_directory` deletes those of this checkout, which is part of `make clean`.
"""

import hashlib
import os
import shutil
from pathlib import Path

from lab.harness import comfyui


def folder(root: Path = comfyui.ROOT) -> Path:
    """The folder that holds every base directory of the checkout in `root`; no other checkout uses it."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "reversion-lab" / hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]


def of(name: str) -> Path:
    """The base directory of one command, such as "demo"; it may not be there yet."""
    return folder() / name


if __name__ == "__main__":
    shutil.rmtree(folder(), ignore_errors=True)
