"""A slow, literal form of the published training step, to hold the fast one against.

It does what METHOD's equations say, one sample at a time: the relation is a row of the whole embedding table, every
caption is encoded for every sample, the noised latent is written with alpha-bar, and the sums of the steering loss are
sums of exponentials. It shares no code with `reversion_core`; of the host it uses the bare networks only.
"""

import copy
import math

import torch


def normal_copy(module):
    """A float32 copy of a module whose weights are normal tensors that autograd can use."""
    with torch.inference_mode(False):
        twin = copy.deepcopy(module)
        for part in twin.modules():
            for name, tensor in list(part._parameters.items()):
                if tensor is not None:
                    part._parameters[name] = torch.nn.Parameter(tensor.detach().clone().float(), requires_grad=False)
            for name, tensor in list(part._buffers.items()):
                if tensor is not None:
                    part._buffers[name] = tensor.detach().clone()
    return twin


def alphas_cumprod():
    betas = torch.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0)


def density(alpha, timesteps=1000):
    """f(t) of METHOD eq. 3, normalised to sum 1."""
    values = [(1 - alpha * math.cos(math.pi * t / timesteps)) / timesteps for t in range(timesteps)]
    return [v / sum(values) for v in values]


class Reference:
    """Text encoder with one more row in its table, and the UNet.

    The host's networks add in place: use it under torch.autograd.graph.allow_mutation_on_saved_tensors().
    """

    def __init__(self, clip, model, relation):
        """relation: float32 [d]; it becomes row 49408 of the table, and the whole table takes a gradient."""
        encoder = clip.cond_stage_model.clip_l
        self.text = normal_copy(encoder.transformer.text_model)
        self.unet = normal_copy(model.model.diffusion_model)
        table = self.text.embeddings.token_embedding.weight
        self.table = torch.cat([table, relation[None]]).requires_grad_()
        self.tokenizer = clip.tokenizer.clip_l.tokenizer

    def ids(self, text):
        return self.tokenizer(text)["input_ids"][1:-1]

    def encode(self, caption):
        """Text features [1, 77, d] of a caption; where it has no `{}` the relation is not in it, as published."""
        before, slot, after = caption.partition("{}")
        ids = [49406, *self.ids(before), *([49408] if slot else []), *self.ids(after), 49407]
        ids += [49407] * (77 - len(ids))
        return self.text(embeds=self.table[torch.tensor([ids])], num_tokens=[77])[0]

    def denoising_loss(self, x0, noise, t, caption, prediction="eps"):
        """METHOD eq. 1 of one sample: x0, noise [c, h, w] in the model's scale."""
        abar = alphas_cumprod()[t]
        signal, sigma = abar.sqrt().float(), (1 - abar).sqrt().float()
        x_t = signal * x0 + sigma * noise
        output = self.unet(x_t[None], torch.tensor([float(t)]), context=self.encode(caption))[0]
        target = noise if prediction == "eps" else signal * noise - sigma * x0
        return (target - output).square().mean()

    def word(self, text):
        """The input embedding of a word, normalised; several tokens are averaged first."""
        row = self.table[self.ids(text)].detach().mean(0)
        return row / row.norm()

    def steering_loss(self, positives, negatives, gamma):
        """METHOD eq. 2 of one sample: lists of words."""
        r = self.table[49408] / self.table[49408].norm()
        attract = sum(torch.exp(r @ self.word(p) / gamma) for p in positives)
        repel = sum(torch.exp(r @ self.word(n) / gamma) for n in negatives)
        return -torch.log(attract / (attract + repel))

    def gradient(self, loss):
        """The gradient of a loss with respect to the relation's row [d]."""
        (table,) = torch.autograd.grad(loss, self.table)
        return table[49408]
