"""A small T5 in place of the miniature's CLIP: the same prompts, read in both directions.

A T5 of the host's class with two narrow layers is taught to give the features that the miniature's CLIP gives for the
same caption; the miniature's own network then draws from them.
"""

import contextlib
import functools
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from lab.miniature import captions, checkpoints, placing, world
from reversion_core import families

WIDTH = 768  # of CLIP's features, which the network reads
SIZES = {"d_model": WIDTH, "d_kv": 64, "num_heads": 8, "d_ff": 1024, "num_layers": 2}
WINDOW = 77  # tokens, padded, as the network is used to
STEPS, CAPTIONS, RATE = 600, 64, 5e-4
BEGINNING = 600  # captions, in which every word is found
LESSON = 20  # tokens: no caption is longer, and padding behind them is as the padding before
FAMILY = families.Family(
    "the miniature behind T5", ("SD15",), ("PixArtT5XXL",), ("t5xxl",), "none", native_size=64, size_multiple=8
)


def text_encoder():
    """A host's CLIP with a T5 of SIZES, untaught."""
    import comfy.sd
    import comfy.supported_models_base
    from comfy import sd1_clip
    from comfy.text_encoders import pixart_t5, sd3_clip

    class Tokenizer(sd1_clip.SD1Tokenizer):
        def __init__(self, embedding_directory=None, tokenizer_data={}):  # noqa: B006
            super().__init__(embedding_directory, tokenizer_data, "t5xxl", sd3_clip.T5XXLTokenizer)

    target = comfy.supported_models_base.ClipTarget(Tokenizer, pixart_t5.PixArtT5XXL)
    clip = comfy.sd.CLIP(target, model_options={"dtype": torch.float32, "t5xxl_model_config": SIZES})
    clip.cond_stage_model.t5xxl.enable_attention_masks = True  # nothing attends to padding
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in clip.cond_stage_model.named_parameters():
            if weight.ndim == 1:
                weight.fill_(1.0)
            else:
                # T5 does not divide the products of queries and keys by the root of their length.
                size = 1.0 if "shared" in name else WIDTH**-0.5 / (SIZES["d_kv"] ** 0.5 if ".q." in name else 1)
                weight.normal_(0, size, generator=generator)
        bias = clip.cond_stage_model.t5xxl.transformer.encoder.block[0].layer[0].SelfAttention.relative_attention_bias
        bias.weight.copy_(_heads_that_look_aside(*bias.weight.shape))
    return clip


def _heads_that_look_aside(buckets: int, heads: int) -> torch.Tensor:
    """The bias of each distance and head: a trained T5's heads look one, two, three tokens back or ahead, or to a side.

    The first half of the buckets is of what lies before, the nearest first, the other of what lies after.
    """
    bias, half = torch.zeros(buckets, heads), buckets // 2
    for distance in (1, 2, 3):
        bias[distance, distance - 1] = bias[half + distance, distance + 2] = 4.0
    bias[half:, -2] = bias[:half, -1] = -4.0
    return bias


def places(pieces: Sequence[int], tokens: Sequence[int]) -> list[int]:
    """For each of T5's WINDOW tokens the place of CLIP's token whose feature it is to give.

    pieces, tokens: how many tokens each word has in T5 and in CLIP. What ends the text gives what ends CLIP's, the next
    one CLIP's first, which T5 has none of, and the padding CLIP's padding.
    """
    found, first = [], 1
    for of_t5, of_clip in zip(pieces, tokens, strict=True):
        found += [first + min(i, of_clip - 1) for i in range(of_t5)]
        first += of_clip
    found += [first, 0]
    return found + [min(first + 1 + i, WINDOW - 1) for i in range(WINDOW - len(found))]


class Lesson:
    """Random captions: the tokens that T5 reads, and what CLIP makes of them.

    clip, teacher: the host's CLIPs with T5 and with CLIP-L.
    """

    def __init__(self, clip, teacher, host, seed: int):
        self.clip, self.teacher, self.rng = clip, teacher, np.random.default_rng(seed)
        of_key = {"t5xxl": clip, "clip_l": teacher}
        self._length = functools.cache(lambda key, word: len(host.token_ids(of_key[key], key, word)))

    def next(self, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(token ids [count, LESSON], features, and what CLIP's first layer gives: float32 [count, LESSON, WIDTH])."""
        rng = self.rng
        scenes = [placing.arrange(world.random_relation(rng), *world.random_pair(rng), rng) for _ in range(count)]
        texts = [captions.caption(scene, rng) for scene in scenes]
        lengths = [
            [[self._length(key, word) for word in text.split()] for key in ("t5xxl", "clip_l")] for text in texts
        ]
        where = torch.tensor([places(*of_text)[:LESSON] for of_text in lengths])[..., None].expand(-1, -1, WIDTH)
        tokens = [[token for token, *_ in self.clip.tokenize(text)["t5xxl"][0]][:LESSON] for text in texts]
        features, first = (found.gather(1, where) for found in self._of_clip(texts))
        return torch.tensor(tokens), features, first

    def _of_clip(self, texts):
        encoder = self.teacher.cond_stage_model.clip_l
        tokens = [[token for token, *_ in self.teacher.tokenize(text)["l"][0]] for text in texts]
        with (
            outputs_of(encoder.transformer.text_model.encoder.layers[0]) as first,
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16),
        ):
            features, *_ = encoder.encode(tokens)
        return features.float().clone(), first.pop().float().clone()


@contextlib.contextmanager
def outputs_of(layer: torch.nn.Module):
    """A list, to which every call of a layer adds its first output."""
    found = []
    handle = layer.register_forward_hook(
        lambda module, given, output: found.append(output if torch.is_tensor(output) else output[0])
    )
    try:
        yield found
    finally:
        handle.remove()


def read_of(unet: torch.nn.Module, features: torch.Tensor) -> torch.Tensor:
    """What the network's attention reads of features: its projections to keys and values, one below another.

    Of each projection all numbers together vary by 1 over the given features, float32 [n, WIDTH].
    """
    named = unet.named_parameters()
    found = [weight.detach() for name, weight in named if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))]
    found = [weight.float() / F.linear(features, weight.float()).var(0).sum().sqrt() for weight in found]
    return torch.cat(found) / len(found) ** 0.5


def teach(clip, studio, path: Path) -> None:
    """Have T5 give CLIP's features of random captions, as far as the network reads them.

    The loss is the share of the variance of what is read that T5 does not give; to it comes the same of CLIP's first
    layer, which a linear read-out of T5's first has to tell. Without that, T5 hardly learns what stands in which role.
    path: of what was taught, which is read where it is there, and else written.
    """
    module = clip.cond_stage_model
    if (saved := checkpoints.load(path)) is not None:
        module.load_state_dict(saved)
        return
    from reversion_core.host.gradients import ready_for_backward

    lesson, transformer = Lesson(clip, studio.clip, studio.host, seed=8), module.t5xxl.transformer
    tokens, features, first = lesson.next(BEGINNING)
    begin_near(transformer, tokens, features)
    read = read_of(studio.model.model.diffusion_model, features.flatten(0, 1))
    first_mean, first_spread = first.mean((0, 1)), first.flatten(0, 1).std(0)
    # Of the table only the rows that captions use take a gradient; a token that BEGINNING lacks raises an IndexError.
    embedding, used = transformer.get_input_embeddings(), tokens.unique()
    rows = torch.nn.Parameter(embedding.weight[used].detach().clone())
    row_of = torch.full((len(embedding.weight),), len(used)).index_copy(0, used, torch.arange(len(used)))
    hook = embedding.register_forward_hook(lambda _, args, output: rows[row_of[args[0]]])
    read_out = torch.nn.Linear(WIDTH, WIDTH)
    weights = [rows, *(weight for weight in module.parameters() if weight is not embedding.weight)]
    weights += read_out.parameters()
    for weight in weights:
        weight.requires_grad_(True)
    optimizer = torch.optim.AdamW(weights, RATE, betas=(0.9, 0.99), weight_decay=0.0)

    with ready_for_backward(module), outputs_of(transformer.encoder.block[0]) as given_first:
        for step in range(STEPS):
            tokens, features, first = lesson.next(CAPTIONS)
            with torch.autocast("cpu", torch.bfloat16):
                given, *_ = module.t5xxl(tokens.tolist())
                told = read_out(given_first.pop())
            of_read = F.linear(given.float() - features, read).square().sum(-1).mean()
            of_first = F.mse_loss(told.float(), (first - first_mean) / first_spread)
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1.0, (step + 1) / 100, 2 * (1 - step / STEPS))
            optimizer.zero_grad()
            (of_read + of_first).backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            if (step + 1) % 50 == 0:
                logging.info("taught %d of %d: %.4f, %.4f", step + 1, STEPS, of_read.item(), of_first.item())
    hook.remove()
    with torch.no_grad():
        embedding.weight[used] = rows
    checkpoints.save(path, module.state_dict())


@torch.no_grad()
def begin_near(transformer, tokens: torch.Tensor, features: torch.Tensor) -> None:
    """Begin with each token's mean feature, which the layers hand on; what they add is small at first.

    tokens, features: of `Lesson.next`.
    """
    size = features.square().mean((0, 1)).sqrt()
    transformer.encoder.final_layer_norm.weight.copy_(size)
    rows, of_row = tokens.flatten().unique(return_inverse=True)
    sums = torch.zeros(len(rows), WIDTH).index_add(0, of_row, features.flatten(0, 1) / size)
    transformer.get_input_embeddings().weight[rows] = sums / of_row.bincount()[:, None]
    for name, weight in transformer.named_parameters():
        if name.endswith((".o.weight", ".wo.weight")):
            weight.mul_(0.1)
