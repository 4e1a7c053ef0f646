"""Training state on disk: written to a temporary file first, so that a kill never leaves half a file."""

import os

import torch


def save(path, state):
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def load(path):
    """The saved state, or None where there is none yet."""
    return torch.load(path, weights_only=True) if path.exists() else None
