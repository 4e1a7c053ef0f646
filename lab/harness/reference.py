"""A slow, literal form of the published training step, to hold the fast one against.

It does what the equations of `reversion_core.method` say: the relation is a row of the whole embedding table, the
caption of every sample is encoded, the noised latent is written with alpha-bar, and the sums of the steering loss are
sums of exponentials. It shares no code with `reversion_core`; of the host it uses the bare networks alone.
"""

import copy
import math
from collections.abc import Sequence

import torch

START, END = 49406, 49407
ROW = 49408  # of the relation
PAD = {"clip_l": END, "clip_g": 0, "clip_h": 0}
# What the UNet of a family takes of an encoder with these keys: (layer from the end or None for the last, normalised).
FEATURES = {("clip_l",): (None, True), ("clip_h",): (-2, True), ("clip_l", "clip_g"): (-2, False)}


def normal_copy(module: torch.nn.Module) -> torch.nn.Module:
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


def alphas_cumprod() -> torch.Tensor:
    """alpha-bar of SD, float64 [1000]: square roots of beta linear from sqrt(0.00085) to sqrt(0.012)."""
    betas = torch.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0)


def density(alpha: float, timesteps: int = 1000) -> list[float]:
    """f(t) of eq. 3, normalised to sum 1."""
    values = [(1 - alpha * math.cos(math.pi * t / timesteps)) / timesteps for t in range(timesteps)]
    return [v / sum(values) for v in values]


def sinusoids(number: float, width: int = 256) -> list[float]:
    """SDXL's embedding of a size or a crop: cosines, then sines, of frequencies from 1 down to 1 / 10000."""
    frequencies = [10000 ** (-i / (width // 2)) for i in range(width // 2)]
    return [math.cos(number * f) for f in frequencies] + [math.sin(number * f) for f in frequencies]


class Reference:
    """Text encoders with one more row in their tables, and the UNet."""

    def __init__(self, clip, model, relation: dict[str, torch.Tensor], options: dict | None = None):
        """clip, model: the host's; relation: encoder key -> float32 [d]; options: of the UNet, such as its attention.

        The relation becomes the last row of each encoder's table, all of which takes a gradient.
        """
        self.unet, self.options = normal_copy(model.model.diffusion_model), options or {}
        self.tokenizers = {key: getattr(clip.tokenizer, key).tokenizer for key in relation}
        self.text, self.tables = {}, {}
        for key, row in relation.items():
            self.text[key] = normal_copy(getattr(clip.cond_stage_model, key).transformer)
            # The host's layers add to their input in place, which autograd needs as it was.
            for layer in self.text[key].text_model.encoder.layers:
                for norm in (layer.layer_norm1, layer.layer_norm2):
                    norm.register_forward_pre_hook(lambda _, args: args[0].clone())
            table = self.text[key].text_model.embeddings.token_embedding.weight
            self.tables[key] = torch.cat([table, row[None]]).requires_grad_()

    def ids(self, key: str, text: str) -> list[int]:
        """Token ids of a text without start and end."""
        return self.tokenizers[key](text)["input_ids"][1:-1]

    def encode(self, captions: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """(text features [n, 77, d], pooled features [n, d] of the last encoder) of captions.

        Where one has no `{}` the relation is not in it, as published.
        """
        layer, normalised = FEATURES[tuple(self.tables)]
        features, pooled = [], None
        for key, table in self.tables.items():
            rows, lengths = [], []
            for caption in captions:
                before, slot, after = caption.partition("{}")
                ids = [START, *self.ids(key, before), *([ROW] if slot else []), *self.ids(key, after), END]
                lengths.append(len(ids))
                rows.append(ids + [PAD[key]] * (77 - len(ids)))
            last, inner, pooled, _ = self.text[key](
                embeds=table[torch.tensor(rows, device=table.device)],
                num_tokens=lengths,
                intermediate_output=layer,
                final_layer_norm_intermediate=normalised,
            )
            features.append(last if layer is None else inner)
        return torch.cat(features, dim=-1), pooled

    def denoising_loss(
        self,
        x0: torch.Tensor,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
        captions: Sequence[str],
        prediction: str = "eps",
    ) -> torch.Tensor:
        """Eq. 1 of each sample, float32 [n].

        x0, noise: float32 [n, c, h, w] in the model's scale; timesteps: int64 [n]; captions: n templates; prediction:
        "eps" or "v".
        """
        abar = alphas_cumprod().to(x0.device)[timesteps][:, None, None, None]
        signal, sigma = abar.sqrt().float(), (1 - abar).sqrt().float()
        x_t = signal * x0 + sigma * noise
        context, pooled = self.encode(captions)
        conditions = {"context": context, "transformer_options": dict(self.options)}
        if "clip_g" in self.tables:
            height, width = (8 * side for side in x0.shape[2:])
            sizes = [v for number in (height, width, 0, 0, height, width) for v in sinusoids(number)]
            conditions["y"] = torch.cat([pooled, torch.tensor([sizes] * len(pooled))], dim=1)
        output = self.unet(x_t, timesteps.float(), **conditions)
        target = noise if prediction == "eps" else signal * noise - sigma * x0
        return (target - output).square().flatten(1).mean(1)

    def word(self, key: str, text: str) -> torch.Tensor:
        """The input embedding of a word, normalised; several tokens are averaged first."""
        row = self.tables[key][self.ids(key, text)].detach().mean(0)
        return row / row.norm()

    def steering_loss(self, positives: Sequence[str], negatives: Sequence[str], gamma: float) -> torch.Tensor:
        """Eq. 2 for the words of one micro-batch, a word for each occurrence, in the mean over the encoders."""
        losses = []
        for key, table in self.tables.items():
            r = table[ROW] / table[ROW].norm()
            attract = sum(torch.exp(r @ self.word(key, p) / gamma) for p in positives)
            repel = sum(torch.exp(r @ self.word(key, n) / gamma) for n in negatives)
            losses.append(-torch.log(attract / (attract + repel)))
        return sum(losses) / len(losses)

    def gradient(self, loss: torch.Tensor) -> dict[str, torch.Tensor]:
        """The gradient of a loss with respect to the relation: encoder key -> [d]."""
        tables = torch.autograd.grad(loss, list(self.tables.values()))
        return {key: table[ROW] for key, table in zip(self.tables, tables, strict=True)}
