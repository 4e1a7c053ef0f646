import torch

from reversion_core.method.prior import orthonormal, project, rescale


def test_span_keeps_what_lies_in_it_and_drops_the_rest():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(5, 32, generator=generator)
    directions = orthonormal(torch.cat([rows, rows[:2] + rows[2:4]]))  # two rows are combinations of others
    assert directions.shape == (5, 32)
    inside, across = torch.randn(2, 5, generator=generator) @ rows, torch.randn(2, 32, generator=generator)
    torch.testing.assert_close(project(inside, directions), inside, rtol=1e-4, atol=1e-4)
    left = across - project(across, directions)
    assert float(left.norm()) > 1 and float((left @ rows.T).abs().max()) < 1e-4


def test_rescaled_vectors_have_the_norm_and_keep_the_direction():
    vectors = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    scaled = rescale(vectors, 0.4)
    torch.testing.assert_close(scaled.norm(dim=1), torch.full((3,), 0.4))
    torch.testing.assert_close(torch.cosine_similarity(scaled, vectors), torch.ones(3))
