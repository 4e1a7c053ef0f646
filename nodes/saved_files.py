"""What nodes have saved, for the host's cache."""

import collections
from pathlib import Path

from ..reversion_core.store.files import states_of


class SavedFiles:
    """The files that a node saved under each name: its fingerprint, so that the host takes "Saved as ..." from its
    cache only while that is true."""

    def __init__(self):
        self._states, self._lost = collections.defaultdict(dict), collections.Counter()

    def lost(self, name: str | None) -> int:
        """How often a file of a name has been changed or removed since it was saved; of all names for None."""
        for own, states in self._states.items():
            for path in [path for path, state in states.items() if states_of([path]) != state]:
                del states[path]
                self._lost[own] += 1
        return self._lost[name] if name is not None else self._lost.total()

    def saved(self, name: str, path: Path, in_place_of_another: bool = False) -> None:
        """A file was saved; in_place_of_another: of one whose content the cache may say to be there."""
        if in_place_of_another and self._states[name].pop(path, None):
            self._lost[name] += 1
        self._states[name][path] = states_of([path])
