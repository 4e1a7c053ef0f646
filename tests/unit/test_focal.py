import pytest
import torch

from lab.harness.reference import density as literal_density
from reversion_core.method import focal


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_density_is_the_paper_s(alpha):
    torch.testing.assert_close(
        focal.distribution(1000, focal.Focal(alpha)).tolist(), literal_density(alpha), rtol=1e-12, atol=0
    )


def test_density_has_the_method_s_constants():
    f, t = focal.distribution(1000, focal.Focal(0.5)), torch.arange(1000)
    assert float((f * t).sum()) == pytest.approx(600.9, abs=0.05)
    assert float(f[t >= 500].sum()) == pytest.approx(0.659, abs=5e-4)
    assert float(f[t >= 800].sum()) == pytest.approx(0.294, abs=5e-4)
    assert float(f[t < 200].sum()) == pytest.approx(0.107, abs=1e-3)
    assert float(f[-1] / f[0]) == pytest.approx(3, abs=1e-3)
    steep = focal.distribution(1000, focal.Focal(1.0))
    assert float((steep * t).sum()) == pytest.approx(702, abs=0.5)
    assert float(steep[t < 200].sum()) == pytest.approx(0.013, abs=5e-4)
    assert float((focal.distribution(1000, focal.Focal(0.0)) * t).sum()) == pytest.approx(499.5)


@pytest.mark.parametrize("stratified", [False, True])
def test_draws_follow_the_density(stratified):
    generator = torch.Generator().manual_seed(0)
    cdf = focal.cumulative(1000, focal.Focal(0.5))
    t = torch.cat([focal.draw_timesteps(cdf, 100, generator, stratified) for _ in range(2000)])
    observed = torch.bincount(t // 100, minlength=10) / len(t)
    expected = focal.distribution(1000, focal.Focal(0.5)).reshape(10, 100).sum(1)
    torch.testing.assert_close(observed.double(), expected, rtol=0.02, atol=0)
    assert t.min() == 0 and t.max() == 999


def test_stratified_draws_have_one_in_each_part():
    cdf = focal.cumulative(1000, focal.Focal(0.0))
    t = focal.draw_timesteps(cdf, 10, torch.Generator().manual_seed(1), stratified=True)
    assert sorted((t // 100).tolist()) == list(range(10))


def test_range_limits_the_draws():
    cdf = focal.cumulative(1000, focal.Focal(0.5, 0.3, 0.4))
    t = focal.draw_timesteps(cdf, 1000, torch.Generator().manual_seed(2))
    assert int(t.min()) >= 300 and int(t.max()) <= 399


@pytest.mark.parametrize(("start", "end"), [(0.3, 0.306), (0.999, 1.0), (0.0, 0.001)])
def test_a_range_within_one_of_few_levels_is_that_level(start, end):
    f = focal.distribution(50, focal.Focal(0.5, start, end))
    assert f.tolist().count(1.0) == 1 and f.argmax() == min(round(start * 50), 49)


def test_the_lowest_level_alone_can_be_drawn_whatever_f_is_there():
    assert focal.distribution(50, focal.Focal(1.0, 0.0, 0.001)).tolist() == [1.0] + [0.0] * 49


def test_quantiles_invert_the_integral_of_the_density():
    u = torch.linspace(0, 1, 21, dtype=torch.float64)
    for alpha in (0.0, 0.5, 1.0):
        t = focal.quantiles(u, alpha)
        assert torch.allclose(t - alpha * torch.sin(torch.pi * t) / torch.pi, u, atol=1e-8)
    assert torch.allclose(focal.quantiles(u, 0.0), u)
    # Three times as many of the steps lie at the highest noise as at the lowest.
    t = focal.quantiles(torch.linspace(0, 1, 10_001, dtype=torch.float64), 0.5)
    assert float((t > 0.99).sum() / (t < 0.01).sum()) == pytest.approx(3, rel=0.05)


def test_relative_density_has_mean_one():
    t = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    assert float(focal.relative_density(t, 0.5).mean()) == pytest.approx(1)
    assert torch.allclose(focal.relative_density(t, 0.5) / 1000, focal.distribution(1000, focal.Focal(0.5)), atol=2e-6)


def test_logit_normal_law_is_centred_where_alpha_says():
    """With u = logit(t) normal around alpha, half of the draws lie above sigmoid(alpha)."""
    for alpha, median in ((0.0, 0.5), (1.0, 0.731)):
        f = focal.distribution(1000, focal.Focal(alpha, law="logit-normal"))
        assert float(f[torch.arange(1000) >= 1000 * median].sum()) == pytest.approx(0.5, abs=2e-3)
        assert float(f.sum()) == pytest.approx(1)
