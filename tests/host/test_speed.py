"""What `make speed` compares does the same work."""

import pytest
import torch

from lab.bench import full_size, speed


def test_the_published_loop_has_our_losses(core):
    """Over several updates, in float32, from the same draws."""
    times, _, differences = speed.steps(3, ["fp32"])
    assert differences["fp32"] < 1e-5
    assert {kind: len(seconds) for kind, seconds in times.items()} == {"fp32": 2, "published": 2, "floor": 2}


def test_the_full_size_checkpoint_has_the_sizes_of_stable_diffusion(core):
    networks = full_size.networks().values()
    millions = [sum(weight.numel() for weight in network.parameters()) / 1e6 for network in networks]
    # Of the published model; the host's text encoder has a projection of 768 x 768 that SD 1.x does not use.
    assert millions == pytest.approx([859.52, 123.06 + 0.59, 83.65], abs=0.01)
    weight = full_size.random_weight("to_q.weight", torch.Size((320, 768)), torch.Generator().manual_seed(0))
    assert float(weight.norm(dim=1).mean()) == pytest.approx(1, rel=0.01)
