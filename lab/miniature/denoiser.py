"""The networks of the miniature: its text encoder and its UNet.

Both are members of the SD 1.x family: a CLIP-L whose first two layers are trained (the other ten are the identity) and
a UNet of one level, 320 channels wide. The training form is lighter than what the host loads, and exports to exactly
the same function: only the embedding rows of used words are parameters, and some 3 x 3 convolutions train their
centre only.
"""

import copy
import functools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from lab.harness import comfyui
from lab.miniature import world

WIDTH, HEADS, LAYERS, TOKENS = 768, 12, 2, 77
# The first part of the training sees the window of tokens only up to here, since no caption is longer. The last of
# them stands for all the padding that follows it in the host's window: its weight in the UNet's attention is theirs.
SHORT_TOKENS = 16
UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [1],
    "channel_mult": [1],
    "transformer_depth": [2],
    "transformer_depth_middle": 2,
    "transformer_depth_output": [0, 0],
    "context_dim": WIDTH,
    "num_heads": 8,
    "use_spatial_transformer": True,
    "legacy": False,
}
# Convolutions of which only the centre is trained: three layers of 3 x 3 see the whole 8 x 8 latent already.
CENTRE_ONLY = (
    "middle_block.0.out_layers.3",
    "middle_block.2.in_layers.2",
    "middle_block.2.out_layers.3",
    "output_blocks.0.0.in_layers.2",
    "output_blocks.0.0.out_layers.3",
    "output_blocks.1.0.in_layers.2",
)

# CLIP's embeddings are so small (0.014 a number) that the first updates of the layers would drown them. So the text
# encoder is trained with everything on its residual stream this much larger, and divided again on export; only the
# epsilon of the normalisations would notice, and it is scaled too.
STREAM_SCALE = 8.0


def _layer_norm():
    return nn.LayerNorm(WIDTH, eps=1e-5 * STREAM_SCALE**2)


class TextLayer(nn.Module):
    """A CLIP text layer under the keys of Hugging Face's CLIP."""

    def __init__(self):
        super().__init__()
        self.layer_norm1, self.layer_norm2 = _layer_norm(), _layer_norm()
        self.self_attn = nn.ModuleDict({f"{n}_proj": nn.Linear(WIDTH, WIDTH) for n in ("q", "k", "v", "out")})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(WIDTH, 4 * WIDTH), "fc2": nn.Linear(4 * WIDTH, WIDTH)})
        for last in (self.self_attn["out_proj"], self.mlp["fc2"]):
            nn.init.normal_(last.weight, std=0.01)
            nn.init.zeros_(last.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, tokens, 768] -> the same shape."""
        h = self.layer_norm1(x)
        q, k, v = (self.self_attn[f"{n}_proj"](h).unflatten(-1, (HEADS, -1)).transpose(1, 2) for n in ("q", "k", "v"))
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.self_attn["out_proj"](h)
        h = self.mlp["fc1"](self.layer_norm2(x))
        return x + self.mlp["fc2"](h * torch.sigmoid(1.702 * h))


class TextEncoder(nn.Module):
    """CLIP-L with two layers, at `STREAM_SCALE` times its scale. vocabulary: the number of words that it knows."""

    def __init__(self, vocabulary: int):
        super().__init__()
        scale = STREAM_SCALE / WIDTH**0.5
        self.rows = nn.Parameter(torch.randn(vocabulary, WIDTH) * 0.4 * scale)
        self.position = nn.Parameter(torch.randn(TOKENS, WIDTH) * 0.2 * scale)
        self.layers = nn.ModuleList(TextLayer() for _ in range(LAYERS))
        self.final_layer_norm = _layer_norm()

    def stream(self, tokens: torch.Tensor) -> torch.Tensor:
        """Row numbers, int64 [n, tokens] -> what the last layer leaves, [n, tokens, 768]."""
        x = self.rows[tokens] + self.position[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return x

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Row numbers, int64 [n, tokens] -> text features [n, tokens, 768]."""
        return self.final_layer_norm(self.stream(tokens))


def export_text(encoder: TextEncoder) -> dict[str, torch.Tensor]:
    """State dict of the text encoder at CLIP's own scale."""
    return _scaled(encoder.state_dict(), 1 / STREAM_SCALE)


def load_text(encoder: TextEncoder, text: dict[str, torch.Tensor]) -> None:
    """Load the state dict of an exported text encoder."""
    encoder.load_state_dict(_scaled(text, STREAM_SCALE))


def _scaled(text: dict[str, torch.Tensor], factor: float) -> dict[str, torch.Tensor]:
    on_stream = ("rows", "position", "out_proj.weight", "out_proj.bias", "fc2.weight", "fc2.bias")
    return {name: tensor * factor if name.endswith(on_stream) else tensor for name, tensor in text.items()}


@functools.cache
def _tokenizer():
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(comfyui.path() / "comfy" / "sd1_tokenizer")


@functools.cache
def used_tokens() -> dict[str, int]:
    """Word -> CLIP token id for every word of the world's captions, and for the two special tokens.

    Raises ValueError for a word that is not one token.
    """
    phrases = [*world.COLOURS, *world.SHAPES, *sum(world.RELATION_WORDS.values(), ()), "and a an picture drawing of"]
    words = sorted({word for phrase in phrases for word in phrase.split()})
    ids = {word: _tokenizer()(word)["input_ids"][1:-1] for word in words}
    if several := [word for word, tokens in ids.items() if len(tokens) != 1]:
        raise ValueError(f"words of several tokens: {several}")
    return {"<start>": 49406, "<end>": 49407, **{word: tokens[0] for word, tokens in ids.items()}}


def row_numbers(captions: Sequence[str], tokens: int = TOKENS) -> torch.Tensor:
    """Captions -> int64 [n, tokens], the numbers of trained embedding rows, padded with <end> as CLIP-L does."""
    number = {word: i for i, word in enumerate(used_tokens())}
    rows = torch.full((len(captions), tokens), number["<end>"])
    for row, caption in zip(rows, captions, strict=True):
        ids = [number["<start>"], *(number[word] for word in caption.split())]
        row[: len(ids)] = torch.tensor(ids)
    return rows


def at_end(features: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Features [n, tokens, d] of row numbers [n, tokens] -> those of the first <end> token of each, [n, d]."""
    end = list(used_tokens()).index("<end>")
    return features[torch.arange(len(rows), device=rows.device), (rows == end).int().argmax(1)]


class PlainOperations:
    """torch's own layers where the host would put its uninitialised ones."""

    Linear, Conv2d, GroupNorm, LayerNorm = nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm

    @staticmethod
    def conv_nd(dims, *args, **kwargs):
        return nn.Conv2d(*args, **kwargs)


def build_unet() -> nn.Module:
    """The host's UNet with `UNET`'s settings, initialised for training."""
    comfyui.make_importable()
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    unet = UNetModel(**copy.deepcopy(UNET), dtype=torch.float32, operations=PlainOperations)
    for name in CENTRE_ONLY:
        parent, _, child = name.rpartition(".")
        old = unet.get_submodule(name)
        setattr(unet.get_submodule(parent), child, nn.Conv2d(old.in_channels, old.out_channels, 1))
    for name, module in unet.named_modules():
        # Each residual branch but the text's starts as (nearly) the identity.
        if name.endswith(("out_layers.3", "proj_out", "attn1.to_out.0", "ff.net.2")):
            nn.init.normal_(module.weight, std=0.005)
            nn.init.zeros_(module.bias)
    _pass_the_noise_through(unet)
    return unet.to(memory_format=torch.channels_last)


@torch.no_grad()
def _pass_the_noise_through(unet):
    """Start with the prediction "the noise is what came in", which is nearly right where the noise is high.

    The latent goes with both signs through the first convolution, the outermost skip connection and the last
    normalisation; silu(x) - silu(-x) is x.
    """
    first, last = unet.input_blocks[0][0], unet.out[2]
    skip = unet.output_blocks[-1][0].skip_connection
    width = first.out_channels
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    for channel in range(4):
        for sign, at in ((1, 2 * channel), (-1, 2 * channel + 1)):
            first.weight[at], first.bias[at] = 0, 0
            first.weight[at, channel, 1, 1] = sign
            skip.weight[at], skip.bias[at] = 0, 0
            skip.weight[at, width + at] = 1
            # The group of ten channels has eight that carry the latent.
            last.weight[channel, at, 1, 1] = sign * 0.8**0.5
    for at in (8, 9):
        skip.weight[at], skip.bias[at] = 0, 0


class Denoiser(nn.Module):
    """Text encoder and UNet together; `forward` predicts the noise."""

    def __init__(self):
        super().__init__()
        self.text = TextEncoder(len(used_tokens()))
        self.unet = build_unet()

    def forward(self, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Noised latents [n, 4, 8, 8], timesteps [n], text features [n, tokens, 768] -> noise [n, 4, 8, 8]."""
        return self.unet(x, t, context=context, transformer_options={"optimized_attention_override": _attention})


def _attention(_, q, k, v, heads, **kwargs):
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return attention(q, k, v, padded=k.shape[2] == SHORT_TOKENS)


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, padded: bool) -> torch.Tensor:
    """Attention of heads [n, heads, tokens, d] -> [n, tokens, heads * d]; padded: the text comes first, in the short
    window, and the last of its tokens stands for all the padding that follows.

    Written out, because torch's fused attention takes several times as long on a CPU for so few tokens.
    """
    scores = q.mul(q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if padded:
        padding = scores.new_zeros(k.shape[2])
        padding[SHORT_TOKENS - 1] = math.log(TOKENS - SHORT_TOKENS + 1)
        scores = scores + padding
    return (scores.softmax(-1).to(v.dtype) @ v).transpose(1, 2).flatten(2)
