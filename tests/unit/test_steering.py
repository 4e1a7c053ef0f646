import math

import pytest
import torch

from reversion_core.method.steering import draw_positives, steering_loss


@pytest.mark.parametrize(("positives", "negatives", "expected"), [(8, 4, 0.405), (4, 4, math.log(2)), (4, 1, None)])
def test_equal_similarities_give_the_log_of_the_share(positives, negatives, expected):
    r = torch.tensor([[1.0, 0.0]])
    same = torch.tensor([0.6, 0.8])
    loss = steering_loss(r, same.expand(positives, 2), same.expand(negatives, 2), 0.07)
    assert float(loss) == pytest.approx(math.log((positives + negatives) / positives), abs=1e-6)
    if expected:
        assert float(loss) == pytest.approx(expected, abs=1e-3)


def test_it_is_the_equation_with_one_softmax_for_all_samples():
    generator = torch.Generator().manual_seed(0)
    r, p, n = (torch.randn(shape, generator=generator) for shape in ((1, 16), (8, 16), (5, 16)))
    unit = torch.nn.functional.normalize
    attract = sum(math.exp(float(unit(r)[0] @ unit(w, dim=0)) / 0.07) for w in p)
    repel = sum(math.exp(float(unit(r)[0] @ unit(w, dim=0)) / 0.07) for w in n)
    assert float(steering_loss(r, p, n, 0.07)) == pytest.approx(-math.log(attract / (attract + repel)), rel=1e-5)


def test_a_negative_counts_every_time_it_occurs():
    generator = torch.Generator().manual_seed(0)
    r, p, n = (torch.randn(shape, generator=generator) for shape in ((1, 16), (4, 16), (3, 16)))
    assert float(steering_loss(r, p, n[[0, 1, 1, 2]], 0.07)) > float(steering_loss(r, p, n, 0.07))


def test_without_negatives_there_is_nothing_to_steer_from():
    r = torch.randn(1, 8, requires_grad=True)
    loss = steering_loss(r, torch.randn(8, 8), torch.empty(0, 8), 0.07)
    loss.backward()
    assert float(loss) == 0 and not r.grad.any()


def test_positives_are_drawn_without_replacement_for_each_sample():
    drawn = draw_positives(10, 10, 6, torch.Generator().manual_seed(0))
    assert all(sorted(row) == list(range(10)) for row in drawn.tolist())
    assert len({tuple(row) for row in drawn.tolist()}) > 1
