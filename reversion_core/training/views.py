"""Which views of an exemplar a model can learn from: only those that are pictures of a kind that it knows.

Most models know a photograph with a little less of its rim or in slightly other colours as well as the photograph. One
that was trained on pixel art, line art or the like may know nothing of the kind, and R would learn what it lacks.
"""

import torch

from .inputs import TrainingData
from .losses import DenoisingErrors, MicroBatch

DRAWS = 4  # of noise, the same for all views
WORSE = 1.5  # times the error of the picture itself: a view of which the model knows less


@torch.no_grad()
def known_views(model, data: TrainingData, count: int, cdf: torch.Tensor, vectors, seed: int) -> list[int]:
    """The numbers of the pictures to train on, each exemplar itself among them; inside `host.borrowed_model`.

    count: of the views of an exemplar, which follow each other, itself first; cdf: of the timesteps; vectors: R's,
    encoder key -> float32 [k, d]. Deterministic in the seed.
    """
    if count == 1:
        return list(range(len(data.captions)))
    of_views = _errors(model, data, cdf, vectors, seed).unflatten(0, (-1, count))
    worse = (of_views / of_views[:, :1]).mean(-1).flatten()  # of each view, times its picture's error
    return [number for number, times in enumerate(worse.tolist()) if number % count == 0 or times <= WORSE]


def _errors(model, data, cdf, vectors, seed):
    """Float32 [n, DRAWS]: the denoising errors of each picture, one at a time, with its first caption."""
    generator = torch.Generator().manual_seed(seed)
    at = (torch.arange(DRAWS, dtype=torch.float64) + 0.5) / DRAWS
    timesteps = torch.searchsorted(cdf, at).clamp(max=len(cdf) - 1)
    noises = torch.randn((DRAWS, 2, *data.mean.shape[1:]), generator=generator)
    templates = sorted({captions[0] for captions in data.captions})
    features = dict(zip(templates, model.encode(templates, vectors), strict=True))
    found = torch.empty(len(data.captions), DRAWS)
    for number, captions in enumerate(data.captions):
        for draw in range(DRAWS):
            one = slice(draw, draw + 1)
            noise, posterior_noise = noises[one].unbind(1)
            unused = torch.zeros(1, 0, dtype=torch.int64)
            piece = MicroBatch(torch.tensor([number]), captions[:1], timesteps[one], posterior_noise, noise, unused)
            found[number, draw] = DenoisingErrors(model, data, piece, features).for_captions.cpu()[0]
    return found
