"""What makes a training a new one, in the artist's words."""

import os

import pytest
import torch

from reversion_core.store.relation import Relation
from reversion_core.store.runs import STATE, RunFolder, RunKey

BEFORE = {"seed": "0", "model weights": "a" * 64, "model attachments": "none of them", "caption tokens": "1"}


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (BEFORE, ""),
        (BEFORE | {"seed": "5"}, "seed (0 -> 5)"),
        (BEFORE | {"model weights": "b" * 64}, "model weights"),
        (BEFORE | {"caption tokens": "2"}, ""),
        (BEFORE | {"augmentation": "views"}, "augmentation (none -> views)"),
        ({n: text for n, text in BEFORE.items() if n != "seed"}, "seed (0 -> none)"),
    ],
    ids=["the same", "another value", "another fingerprint", "derived", "an input that it lacked", "one less"],
)
def test_what_differs_from_the_latest_run_is_named(tmp_path, now, told):
    folders = [RunFolder(tmp_path, RunKey(parts), 1, "run") for parts in (BEFORE | {"seed": "9"}, BEFORE, now)]
    assert folders[0].changes() == ""
    learned = Relation({"clip_l": torch.zeros(1, 4)})
    for age, folder in zip((20, 10), folders, strict=False):
        folder.keep({"history": torch.zeros(1)}, [{"loss": 0.0}], learned, {})
        os.utime(folder.path / STATE, (10**9 - age, 10**9 - age))
    assert folders[2].changes() == told
