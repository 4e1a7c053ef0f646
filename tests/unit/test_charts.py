"""Pictures of a training: nothing is cut off, nothing is drawn larger than it is, and a node has room for them."""

import numpy as np
import pytest

from reversion_core.report import charts

TITLES = {"denoise": "denoising loss", "norm": "norm of R"}
SAMPLE = np.zeros((512, 512, 3), dtype=np.uint8)


def history(norm):
    return [{"denoise": 0.006 + 0.0001 * i, "norm": norm(i)} for i in range(50)]


def ink_at_the_left(image):
    return np.asarray(image.convert("L"))[40:, :3].min() < 128


@pytest.mark.parametrize("high", [0.00613, 1e-7, 1234567.0, -0.01234])
def test_no_label_of_an_axis_is_cut_off(high):
    assert not ink_at_the_left(charts.line_chart("loss", {"raw": [0.0, high]}, "step"))


def test_an_axis_does_not_magnify_rounding():
    low, high = charts.axis_range(np.array([2.0, 2.000001]))
    assert high - low >= charts.SMALLEST_SPAN * 2 and low < 2 < high
    assert charts.axis_range(np.array([1.0, 3.0, np.nan, np.inf])) == (1.0, 3.0)


@pytest.mark.parametrize("sample", [None, SAMPLE])
@pytest.mark.parametrize("message", ["", "Verdict: fine.\n" + "very long words " * 40])
@pytest.mark.parametrize("norm", [lambda i: 0.4, lambda i: 0.4 + 0.01 * i])
def test_a_card_fits_on_its_node(sample, message, norm):
    card = charts.progress_card("Step 50 of 400, 2:10 left", history(norm), TITLES, sample, message)
    assert card.width == charts.WIDTH and card.height <= 400
    with_preview = np.asarray(card)[-charts.CHART_HEIGHT :, -charts.CHART_HEIGHT :]
    assert (sample is not None) == (with_preview.max() == 0)


def test_a_norm_that_is_kept_has_no_chart():
    kept, free = (charts.training_report(history(norm), TITLES) for norm in (lambda i: 0.4, lambda i: 0.4 + 0.01 * i))
    right_half = slice(charts.WIDTH, None)
    assert np.asarray(kept)[:, right_half].min() == 255 and np.asarray(free)[:, right_half].min() < 255


def test_names_of_points_do_not_lie_on_each_other():
    one = charts.scatter_chart("", {"R": (("R",), np.array([[0.0, 0.0]])), "x": (("y",), np.array([[1.0, 1.0]]))})
    same = (("R", "R"), np.array([[0.0, 0.0], [0.0, 0.0]]))
    two = charts.scatter_chart("", {"R": same, "x": (("y",), np.array([[1.0, 1.0]]))})
    assert np.array_equal(np.asarray(one), np.asarray(two))
