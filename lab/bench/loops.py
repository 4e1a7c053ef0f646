"""What `make speed` holds a training step against: the published loop, and the bare networks."""

import time

import torch

from lab.harness.reference import Reference
from reversion_core.method.words import entity_words


class Published:
    """The published loop, literally: the whole table is optimised, and put back after each micro-batch, the VAE runs
    at every step, a uniform t is drawn and thrown away, all in float32. It takes the same draws as our learner, so
    that losses can be compared.
    """

    def __init__(self, bench, learner):
        self.bench, self.learner = bench, learner
        start = next(iter(learner.vectors.values()))[0]
        self.reference = Reference(bench.clip, bench.model, {"clip_l": start.to(bench.device)})
        self.reference.unet.to(bench.device)
        self.table = self.reference.tables["clip_l"]
        self.before = self.table.detach().clone()
        settings = learner.settings
        self.optimizer = torch.optim.AdamW([self.table], settings.learning_rate, weight_decay=settings.weight_decay)
        self.generator, self.epoch = torch.Generator().manual_seed(settings.seed), []

    def update(self):
        """One update; returns its loss."""
        task, problem, learner = self.bench.task, self.learner.problem, self.learner
        batches = self.bench.trainer.draw_update(
            problem, task.settings, task.steering, learner.cdf, self.epoch, self.generator
        )
        total = 0.0
        for draws in batches:
            torch.randint(1000, (len(draws.captions),), generator=torch.Generator().manual_seed(0))
            with torch.inference_mode():
                self.bench.vae.encode(self.bench.pixels[draws.exemplars])
            x0 = problem.mean[draws.exemplars] + problem.std[draws.exemplars] * draws.posterior
            loss = self._loss(draws, x0) / len(batches)
            loss.backward()
            total += float(loss.detach())
            if draws is batches[-1]:
                self.optimizer.step()
                self.optimizer.zero_grad()
            with torch.no_grad():
                self.table[:-1] = self.before[:-1]
        return total

    def _loss(self, draws, x0):
        task, device = self.bench.task, self.bench.device
        captions = [task.captions[c] for c in draws.captions]
        denoise = self.reference.denoising_loss(x0.to(device), draws.noise.to(device), draws.timesteps, captions).mean()
        negatives = entity_words([task.captions[c] for c in sorted(set(draws.captions))])
        rows = [[task.steering.basis[p] for p in row] for row in draws.positives.tolist()]
        steer = [self.reference.steering_loss(row, negatives, task.steering.temperature) for row in rows]
        return denoise + task.steering.weight * torch.stack(steer).mean()


class Floor:
    """The bare networks, same batch and dtype: text encoder, UNet forward, backward to its text features, and through
    the text encoder."""

    def __init__(self, bench, learner):
        self.bench, self.learner = bench, learner
        self.parts = {"text encoder": [], "UNet forward": [], "UNet backward": []}

    def update(self):
        settings, learner = self.learner.settings, self.learner
        unet = self.bench.model.model.diffusion_model
        clock = self._clock()
        captions = list(range(len(self.bench.task.captions)))
        features = learner.model.encode(captions, learner.relation)["cross_attn"]
        leaf = features.detach().requires_grad_()
        forward = backward = 0.0
        text = clock()
        for i in range(settings.accumulation):
            clock = self._clock()
            x = torch.zeros(settings.batch_size, *self.bench.mean.shape[1:], device=self.bench.device)
            rows = [(i * settings.batch_size + j) % len(captions) for j in range(settings.batch_size)]
            t = torch.full((settings.batch_size,), 500.0, device=self.bench.device)
            output = unet(x, t, context=leaf[rows], transformer_options=learner.model._options)
            forward += clock()
            clock = self._clock()
            output.square().mean().backward()
            backward += clock()
        clock = self._clock()
        features.backward(leaf.grad)
        for name, seconds in zip(self.parts, (text + clock(), forward, backward), strict=True):
            self.parts[name].append(seconds)

    def _clock(self):
        self.bench.synchronise()
        began = time.perf_counter()

        def seconds():
            self.bench.synchronise()
            return time.perf_counter() - began

        return seconds
