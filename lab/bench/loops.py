"""What `make speed` holds a training step against: the published loop, and the bare networks."""

import time
from collections.abc import Callable

import torch

from lab.bench.training_setup import TrainingSetup
from lab.harness.reference import Reference
from reversion_core.training.step import draw_update


def stopwatch(setup: TrainingSetup) -> Callable[[], float]:
    """A function that gives the seconds since now, once the device has done its work."""
    setup.synchronise()
    began = time.perf_counter()

    def seconds() -> float:
        setup.synchronise()
        return time.perf_counter() - began

    return seconds


class Published:
    """The published loop, literally: the whole table is optimised, and put back after each micro-batch, the VAE runs
    at every step, a uniform t is drawn and thrown away, all in float32. It takes the same draws as our learner, so
    that losses can be compared, and attends as ours does: the host's own choice on a CPU is far slower.

    parts: seconds in each update of what our loop does without: the VAE, and the table (AdamW on it, putting it back).
    """

    def __init__(self, setup: TrainingSetup, learner):
        self.setup, self.learner = setup, learner
        start = next(iter(learner.vectors.values()))[0]
        relation = {"clip_l": start.to(setup.device)}
        self.reference = Reference(setup.clip, setup.model, relation, learner.model._options)
        self.reference.unet.to(setup.device)
        self.table = self.reference.tables["clip_l"]
        self.before = self.table.detach().clone()
        settings = learner.inputs.settings
        self.optimizer = torch.optim.AdamW([self.table], settings.learning_rate, weight_decay=settings.weight_decay)
        self.generator, self.epoch = torch.Generator().manual_seed(settings.seed), []
        self.parts = {"VAE": [], "table": []}

    def update(self) -> float:
        """One update; returns its loss."""
        data, learner = self.learner.data, self.learner
        batches = draw_update(data, learner.inputs, learner.cdf, self.epoch, self.generator)
        total = vae = table = 0.0
        for draws in batches:
            torch.randint(1000, (len(draws.captions),), generator=torch.Generator().manual_seed(0))
            seconds = stopwatch(self.setup)
            with torch.inference_mode():
                self.setup.vae.encode(self.setup.pixels[draws.exemplars])
            vae += seconds()
            x0 = data.mean[draws.exemplars] + data.std[draws.exemplars] * draws.posterior_noise
            loss = self._loss(draws, x0) / len(batches)
            loss.backward()
            total += float(loss.detach())
            seconds = stopwatch(self.setup)
            if draws is batches[-1]:
                self.optimizer.step()
                self.optimizer.zero_grad()
            with torch.no_grad():
                self.table[:-1] = self.before[:-1]
            table += seconds()
        self.parts["VAE"].append(vae)
        self.parts["table"].append(table)
        return total

    def _loss(self, draws, x0: torch.Tensor) -> torch.Tensor:
        inputs, device = self.setup.inputs, self.setup.device
        captions = [inputs.captions[c] for c in draws.captions]
        denoise = self.reference.denoising_loss(x0.to(device), draws.noise.to(device), draws.timesteps, captions).mean()
        # Captions of the drawn world name colours and shapes only: every word is an entity's.
        negatives = [word for c in draws.captions for word in _words(inputs.captions[c])]
        positives = [inputs.steering.basis[p] for p in draws.positives.flatten().tolist()]
        return denoise + 0.01 * self.reference.steering_loss(positives, negatives, 0.07)


def _words(caption: str) -> list[str]:
    return caption.replace("{}", " ").split()


class BareNetworks:
    """The bare networks, same batch and dtype: text encoder, UNet forward, backward to its text features, and through
    the text encoder. parts: seconds in each update of these three."""

    def __init__(self, setup: TrainingSetup, learner):
        self.setup, self.learner = setup, learner
        self.parts = {"text encoder": [], "UNet forward": [], "UNet backward": []}

    def update(self) -> None:
        settings, learner = self.learner.inputs.settings, self.learner
        unet = self.setup.model.model.diffusion_model
        seconds = stopwatch(self.setup)
        captions = list(range(len(self.setup.inputs.captions)))
        encoded = learner.model.encode(captions, learner.relation)
        features = torch.cat([of_one["cross_attn"] for of_one in encoded])
        leaf = features.detach().requires_grad_()
        forward = backward = 0.0
        text = seconds()
        for i in range(settings.accumulation):
            seconds = stopwatch(self.setup)
            x = torch.zeros(settings.batch_size, *self.setup.mean.shape[1:], device=self.setup.device)
            rows = [(i * settings.batch_size + j) % len(captions) for j in range(settings.batch_size)]
            t = torch.full((settings.batch_size,), 500.0, device=self.setup.device)
            output = unet(x, t, context=leaf[rows], transformer_options=learner.model._options)
            forward += seconds()
            seconds = stopwatch(self.setup)
            output.square().mean().backward()
            backward += seconds()
        seconds = stopwatch(self.setup)
        features.backward(leaf.grad)
        for name, spent in zip(self.parts, (text + seconds(), forward, backward), strict=True):
            self.parts[name].append(spent)
