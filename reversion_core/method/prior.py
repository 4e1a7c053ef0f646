"""The preposition prior and the norm of R: what R is held to after each update."""

import torch

PRIORS = {
    "pull": "the steering loss alone pulls R to the basis and away from entities, as published",
    "span": "R stays a combination of the basis words, where there is little room for the look of the exemplars",
    "none": "neither: Textual Inversion",
}
NORMS = {
    "free": "the norm of R may grow, as published",
    "vocabulary": "R keeps the mean norm of the vocabulary",
}


def orthonormal(rows):
    """An orthonormal basis of the span of rows [n, d]: float32 [r, d], r <= n their rank."""
    _, sizes, directions = torch.linalg.svd(rows.double(), full_matrices=False)
    return directions[sizes > 1e-6 * sizes[0]].float()


def project(vectors, directions):
    """Vectors [k, d] projected on the span of orthonormal directions [r, d]."""
    return vectors @ directions.T @ directions


def rescale(vectors, norm):
    """Vectors [k, d] with every norm set to `norm`."""
    return vectors * (norm / vectors.norm(dim=-1, keepdim=True))
