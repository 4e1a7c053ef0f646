"""Going on from where an equal training was stopped."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from ..store import runs
from .loop import Learner

# What a resume tells of where it differs: name in `made_with` -> title.
_MAKERS = {"pack": "ReVersion", "comfyui": "ComfyUI", "torch": "torch", "device": "the device"}


def go_on(learner: Learner, folder: runs.RunFolder, made_with: dict, tell: Callable[[str], None]) -> Path | None:
    """Put a learner where the furthest state stands whose updates are those of this run.

    made_with: of this run, which gets what the state was made with; tell(text) says it to the artist. Returns the
    folder of that state, None where there is none.
    """
    settings, falling = learner.inputs.settings, []
    for path, tensors, steps in folder.states():
        done, theirs = len(tensors["history"]), dataclasses.replace(settings, steps=steps)
        if done > settings.steps:
            continue
        if any(settings.rate(i) != theirs.rate(i) for i in range(done)):
            falling.append(steps)
            continue
        try:
            learner.restore(tensors)
        except ValueError as error:
            tell(f"the saved state {path} cannot be used ({error}); it is left out")
            if path.parent == folder.path:
                runs.set_aside(path)
            continue
        before = runs.made_with(path)
        if before.get("tiled", 0) != made_with.get("tiled", 0):
            tell("its pictures were encoded differently then, in tiles or whole: not the same bit for bit")
        differing = [name for name in _MAKERS if name in before and before[name] != made_with[name]]
        others = [f"{_MAKERS[name]} {before[name]}" for name in differing]
        made_with["resumed_from"] = [*before.pop("resumed_from", []), {"step": done, **before}]
        began = f", begun with {', '.join(others)}" if others else ""
        tell(f"resumed after step {done} of an equal training{began}")
        return path.parent
    if falling:
        tell(
            f"not resumed from an equal training of {falling[0]} steps, over which its learning rate fell; the "
            "schedule 'constant' allows it"
        )
    return None
