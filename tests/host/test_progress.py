"""What a training shows on its node while it runs."""

from types import SimpleNamespace

import pytest


def test_what_others_say_is_made_into_sentences_whatever_it_is(reversion):
    from reversion_pack.nodes import progress

    assert progress.as_sentences(["first\n  \nsecond, a!", "", "0.png is odd"]) == "First.\nSecond, a!\n0.png is odd."


@pytest.mark.parametrize("began_at", [0, 100], ids=["from the beginning", "resumed"])
def test_the_time_left_is_told_from_the_second_update_on(reversion, monkeypatch, began_at):
    """An update takes 60 s, and getting ready 300."""
    from reversion_pack.nodes import progress

    now, headlines = [0.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = progress.TrainingProgress(SimpleNamespace(hidden=SimpleNamespace(unique_id=None)), 400)
    monkeypatch.setattr(shown, "_card", headlines.append)
    shown(None, [])
    now[0] += 300
    for step in (1, 2, 10):
        now[0] = 300 + 60 * step
        shown(SimpleNamespace(step=began_at + step, history=[]), [])
    left = [400 - began_at - step for step in (2, 10)]
    assert headlines == [
        f"Step {began_at + 1} of 400",
        *(f"Step {began_at + step} of 400, {minutes}:00 left" for step, minutes in zip((2, 10), left, strict=True)),
    ]
