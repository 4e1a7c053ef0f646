"""Training state on disk, written whole or not at all."""

import torch

from reversion_core.store.files import whole_file


def save(path, state):
    with whole_file(path) as file:
        torch.save(state, file)


def load(path):
    """The saved state, or None where there is none yet."""
    return torch.load(path, weights_only=True) if path.exists() else None
