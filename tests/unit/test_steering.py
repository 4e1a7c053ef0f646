import math

import pytest
import torch

from reversion_core.method.steering import draw_positives, steering_loss


@pytest.mark.parametrize(("positives", "negatives", "expected"), [(8, 4, 0.405), (4, 4, math.log(2)), (4, 1, None)])
def test_equal_similarities_give_the_log_of_the_share(positives, negatives, expected):
    r = torch.tensor([[1.0, 0.0]])
    same = torch.tensor([0.6, 0.8])
    loss = steering_loss(r, same.expand(3, positives, 2), same.expand(negatives, 2), 0.07)
    assert float(loss) == pytest.approx(math.log((positives + negatives) / positives), abs=1e-6)
    if expected:
        assert float(loss) == pytest.approx(expected, abs=1e-3)


def test_it_is_the_equation_on_random_vectors():
    generator = torch.Generator().manual_seed(0)
    r, p, n = (torch.randn(shape, generator=generator) for shape in ((1, 16), (2, 4, 16), (5, 16)))
    unit = torch.nn.functional.normalize
    losses = []
    for sample in p:
        attract = sum(math.exp(float(unit(r)[0] @ unit(w, dim=0)) / 0.07) for w in sample)
        repel = sum(math.exp(float(unit(r)[0] @ unit(w, dim=0)) / 0.07) for w in n)
        losses.append(-math.log(attract / (attract + repel)))
    assert float(steering_loss(r, p, n, 0.07)) == pytest.approx(sum(losses) / 2, rel=1e-5)


def test_without_negatives_there_is_nothing_to_steer_from():
    assert float(steering_loss(torch.randn(1, 8), torch.randn(2, 4, 8), torch.empty(0, 8), 0.07)) == 0


def test_positives_are_drawn_without_replacement_for_each_sample():
    drawn = draw_positives(10, 10, 6, torch.Generator().manual_seed(0))
    assert all(sorted(row) == list(range(10)) for row in drawn.tolist())
    assert len({tuple(row) for row in drawn.tolist()}) > 1
