import numpy as np
import pytest

from reversion_core.errors import ReVersionError
from reversion_core.exemplars import Exemplars
from reversion_core.method.focal import Focal
from reversion_core.method.steering import Steering
from reversion_core.training.inputs import TrainingInputs
from reversion_core.training.settings import PRESETS, TrainSettings, from_preset


def test_paper_preset_is_the_published_setting():
    paper = PRESETS["paper"]
    assert (paper.steps, paper.batch_size, paper.accumulation) == (3000, 2, 4)
    assert (paper.learning_rate, paper.schedule, paper.weight_decay) == (2.0e-3, "constant", 1e-2)
    assert (paper.initial_word, paper.vectors, paper.norm, paper.stratified) == ("and", 1, "free", False)
    assert (paper.denoise_weight, paper.precision) == (1.0, "fp32")


def test_zero_and_preset_mean_the_preset_and_seed_zero_means_zero():
    settings = from_preset("paper", steps=0, learning_rate=0.0, schedule="preset", seed=0, vectors=2)
    assert settings.steps == 3000 and settings.learning_rate == 2e-3 and settings.vectors == 2 and settings.seed == 0


def test_preset_is_a_word_that_a_relation_may_start_from():
    assert from_preset("paper", initial_word="preset").initial_word == "preset"


def test_schedule_counts_updates_whatever_the_accumulation():
    for accumulation in (1, 4):
        settings = TrainSettings(steps=10, accumulation=accumulation, learning_rate=1.0, schedule="linear")
        assert [settings.rate(i) for i in (0, 5, 9)] == pytest.approx([1.0, 0.5, 0.1])


def test_values_out_of_range_are_refused_by_name():
    with pytest.raises(ReVersionError, match="ReVersion Train, input 'vectors': 9 is out of range"):
        from_preset("fast", vectors=9)


def test_one_picture_is_a_short_balanced_training_on_views():
    preset, balanced = PRESETS["one picture"], PRESETS["balanced"]
    assert (preset.prior, preset.norm, preset.augmentation) == ("span", "vocabulary", "views")
    assert preset.steps * preset.batch_size * preset.accumulation < balanced.steps * balanced.batch_size
    assert from_preset("one picture", augmentation="none").augmentation == "none"


def test_views_are_part_of_a_run_s_key_and_runs_without_are_found_as_before():
    exemplars = Exemplars(("0.png",), (np.zeros((8, 8, 3), np.uint8),), (("cat {} stone",),))

    def parts(settings):
        return TrainingInputs(exemplars, settings, Steering(), Focal()).key_parts(8)

    assert parts(PRESETS["one picture"])["augmentation"] == "views"
    assert "augmentation" not in parts(PRESETS["balanced"])
