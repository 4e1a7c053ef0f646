"""The host's model as the trainer sees it."""

import contextlib
from functools import partial

import comfy.ldm.modules.attention
import comfy.model_management
import comfy.sampler_helpers
import comfy.samplers
import torch

from .. import families
from . import loading, other_nodes
from .borrowing import alias, borrowed
from .encoders import embedding_scale, encoders, encodes_in_batches
from .gradients import (
    Differentiable,
    full_precision_products,
    is_unet,
    keeping_copies,
    ready_for_backward,
    training_mode,
)
from .recompute import blocks_of, recomputing


def _pytorch_attention(_, q, k, v, *args, attn_precision=None, **kwargs):
    """torch's attention, in float32 where the host computes attention in that: not where it takes torch's itself."""
    attention = comfy.ldm.modules.attention
    own = comfy.model_management.pytorch_attention_enabled()
    dtype = (None if own else attention.get_attn_precision(attn_precision, q.dtype)) or q.dtype
    given, named = [_to(dtype, x) for x in (q, k, v, *args)], {name: _to(dtype, x) for name, x in kwargs.items()}
    return attention.attention_pytorch(*given, **named).to(q.dtype)


class HostModel:
    """The loaded model as the trainer sees it. Its methods work only inside `borrowed_model`.

    It knows no family: noise levels, the network's own error, text features and conditioning all come from the host's
    functions, as its sampler uses them.
    """

    def __init__(self, model, clip, tokens, turns=None):
        """tokens: of the captions, from `caption_tokens`; turns: of network and text encoders, where they take any."""
        self.patcher = model
        self._turns = turns
        self._clip = clip
        self._tokens = tokens
        self._device = model.load_device
        self._sampling = model.get_model_object("model_sampling")
        self._sigmas = self._sampling.sigmas.to(self._device).clone()
        self._encoders = encoders(clip)
        self._scales = {key: embedding_scale(encoder.embedding) for key, encoder in self._encoders.items()}
        self._batched = encodes_in_batches(clip)
        # The host's sub-quadratic attention picks its chunks by free memory; this one always computes the same.
        self._options = other_nodes.transformer_options(model, _pytorch_attention)
        self._patched = other_nodes.is_patched(model)
        self._look_for_weights = lambda: None
        family = families.of_config(type(model.model.model_config).__name__)
        self._constant = family.constant_conditioning if family else {}

    @property
    def patchers(self) -> tuple:
        """The host's patchers of the network and of the text encoders."""
        return self.patcher, self._clip.patcher

    @property
    def takes_turns(self) -> bool:
        """Whether what was encoded leaves the device, with its graph, when the network is needed."""
        return self._turns is not None

    @property
    def encodes_together(self) -> bool:
        """Whether `encode` takes several captions through the text encoders at once, which are small then."""
        return self._batched

    def _turn_of(self, name):
        if self._turns is not None and self._turns.to(name):
            self._look_for_weights()

    @property
    def timesteps(self) -> int:
        """T, the number of the sampling's noise levels; `prediction_error` counts them from 0."""
        return len(self._sigmas)

    @property
    def computes_in_fp16(self) -> bool:
        """Whether the network computes in float16, in which small gradients are 0."""
        base = self.patcher.model
        return (base.manual_cast_dtype or base.diffusion_model.dtype) == torch.float16

    @contextlib.contextmanager
    def recording(self):
        """The context of a forward pass and its backward pass.

        What a patch of the network changes in place is not known: copies are kept then, which takes memory.
        """
        with contextlib.ExitStack() as entered:
            if self._patched:
                networks = self.patcher.model.diffusion_model, self._clip.cond_stage_model
                self._look_for_weights = entered.enter_context(keeping_copies(*networks))
            if not (self._batched and is_unet(self.patcher.model.diffusion_model)):
                entered.enter_context(Differentiable())
            yield

    def encode(self, captions: list[int], relation: dict[str, torch.Tensor]) -> list[dict]:
        """Text features of some captions (by number) with the live R.

        relation: encoder key -> [k, d], on any device; gradients reach it. For each caption what the host's own encode
        gives, with batch dimension 1: {"cross_attn": [1, n, d], "pooled_output": [1, d] or None} and, of some
        families, masks, hidden layers or token ids.
        """
        self._turn_of("clip")
        encoder = self._clip.cond_stage_model
        encoder.reset_clip_options()
        options = {"execution_device": self._clip.patcher.load_device}
        if self._clip.layer_idx is not None:
            options["layer"] = self._clip.layer_idx
        encoder.set_clip_options(options)
        scaled = {key: rows * self._scales[key] for key, rows in relation.items()}
        try:
            if self._batched:
                return self._encode_together(captions, scaled)
            return [self._encode(self._tokens[caption], scaled) for caption in captions]
        finally:
            encoder.reset_clip_options()

    def _encode_together(self, captions, relation):
        """The first windows of several captions in one pass through each CLIP encoder."""
        found = [
            encoder.module.encode([[_live(t, relation) for t in self._tokens[c][encoder.tokens][0]] for c in captions])
            for encoder in self._encoders.values()
        ]
        read = min(of_one[0].shape[1] for of_one in found)  # as the host cuts them: a LongCLIP reads more
        cross_attn, pooled = torch.cat([of_one[0][:, :read] for of_one in found], -1), found[-1][1]
        return [{"cross_attn": cross_attn[i : i + 1], "pooled_output": pooled[i : i + 1]} for i in range(len(captions))]

    def _encode(self, tokens, relation):
        """One caption as the host encodes it, all of its windows."""
        weighted = {
            name: [[(_live(token, relation), 1.0) for token in window] for window in windows]
            for name, windows in tokens.items()
        }
        cross_attn, pooled, *more = self._clip.cond_stage_model.encode_token_weights(weighted)
        return {"cross_attn": cross_attn, "pooled_output": pooled, **(more[0] if more else {})}

    def prediction_error(self, x0, noise, timesteps, features):
        """The error of the network's own output: of the noise, of v or of a flow's velocity, as it was trained.

        x0, noise: latents [b, c, h, w] or [b, c, 1, h, w] in the model's scale; timesteps: int64 [b], indices of the
        sampling's noise levels; features: of each sample's caption, from `encode`. float32, of the shape of x0.

        What the sampling makes of the output is affine in it, so the error of the denoised latents over the output's
        factor is the output's own.
        """
        self._turn_of("model")
        x0, noise = x0.to(self._device), noise.to(self._device)
        sigma = self._sigmas[timesteps.to(self._device)]
        x_t = self._sampling.noise_scaling(sigma, noise, x0)
        conds = [self._conds(x_t[i : i + 1], of_one) for i, of_one in enumerate(features)]
        if not self._patched and all(_alike(conds[0], other) for other in conds[1:]):
            together = {name: cond.concat([other[name] for other in conds[1:]]) for name, cond in conds[0].items()}
            denoised = self._denoised(x_t, sigma, together)
        else:
            singles = zip(x_t.split(1), sigma.split(1), conds, strict=True)
            denoised = torch.cat([self._denoised(x, s, {n: c.cond for n, c in own.items()}) for x, s, own in singles])
        factor = self._sampling.calculate_denoised(sigma, torch.ones_like(x0), torch.zeros_like(x0))
        return ((denoised - x0) / factor).float()

    def example_conditions(self, shape: tuple[int, ...]) -> dict:
        """What the network is given beside one picture's latents, of the first caption: name -> as the host has it."""
        vectors = max(token[1] for token in _markers(self._tokens[0])) + 1
        zeros = {key: torch.zeros(vectors, e.embedding.weight.shape[-1]) for key, e in self._encoders.items()}
        with torch.no_grad():
            features = self.encode([0], zeros)[0]
            self._turn_of("model")
            conds = self._conds(torch.zeros(1, *shape, device=self._device), features)
        return {name: cond.cond for name, cond in conds.items()}

    def _denoised(self, x_t, sigma, conds):
        options = {**self._options, "sigmas": sigma}
        return other_nodes.apply_model(self.patcher, x_t, sigma, {**conds, "transformer_options": options})

    def _conds(self, x_t, features):
        """The host's conditioning objects for one sample, as its sampler prepares them."""
        base = self.patcher.model
        about = {name: value for name, value in features.items() if name != "cross_attn"}
        conds = comfy.sampler_helpers.convert_cond([[features["cross_attn"], {**about, **self._constant}]])
        conds = comfy.samplers.encode_model_conds(base.extra_conds, conds, x_t, self._device, "positive")
        return {
            name: cond.process_cond(batch_size=len(x_t), device=self._device, area=None)
            for name, cond in conds[0]["model_conds"].items()
        }


def _alike(conds, others):
    """Whether two samples may share a forward pass: padding would change what some networks compute."""
    return conds.keys() == others.keys() and all(
        cond.can_concat(others[name]) and getattr(cond.cond, "shape", None) == getattr(others[name].cond, "shape", None)
        for name, cond in conds.items()
    )


def _live(token, relation):
    """A token id, or vector i of an encoder's R where `caption_tokens` left the marker (key, i)."""
    return relation[token[0]][token[1]] if isinstance(token, tuple) else token


def _markers(tokens):
    return [token for windows in tokens.values() for w in windows for token in w if isinstance(token, tuple)]


class _Turns:
    """Network and text encoders that do not fit on the device together: one of them is there, borrowed for autograd."""

    def __init__(self, parts, node):
        """parts: name of the input -> (patcher, function that makes the context in which it is borrowed)."""
        self._parts, self._node, self._there, self._entered = parts, node, None, contextlib.ExitStack()

    def to(self, name):
        """Have a part on the device; whether it was not."""
        if name == self._there:
            return False
        self.end()
        (going,) = (patcher for other, (patcher, _) in self._parts.items() if other != name)
        patcher, borrow = self._parts[name]
        loading.take_turns(patcher, going, self._node, name)
        self._entered.enter_context(borrow())
        self._there = name
        return True

    def end(self):
        self._there = None
        self._entered.close()


@contextlib.contextmanager
def _each(*contexts):
    with contextlib.ExitStack() as entered:
        for context in contexts:
            entered.enter_context(context)
        yield


@contextlib.contextmanager
def borrowed_model(model, clip, tokens, dtype=None, recompute=False, in_turns=""):
    """A HostModel over MODEL and CLIP from `load_for_training`, with autograd through both; all is put back afterwards.

    dtype: to compute in, by temporary copies of the weights; None computes in those that the host chose. Text features
    and losses are float32 in any case. recompute: trade time for memory in the diffusion model, see `recomputing`.
    Networks whose weights are cast at each use, and text encoders other than CLIP, are recomputed in any case, since
    autograd would keep the cast copy of every weight. in_turns: the name of the node that trains where network and text
    encoders are to be on the device by turns, whichever is needed; the numbers are the same.
    """
    parts = {
        "model": (model, partial(_borrowed_network, model, dtype, recompute)),
        "clip": (clip.patcher, partial(_borrowed_text, clip, dtype)),
    }
    with training_mode(), contextlib.ExitStack() as entered:
        if in_turns:
            turns = _Turns(parts, in_turns)
            entered.callback(turns.end)
            yield HostModel(model, clip, tokens, turns)
        else:
            for _, borrow in parts.values():
                entered.enter_context(borrow())
            yield HostModel(model, clip, tokens)


def _borrowed_network(model, dtype, recompute):
    """The context in which autograd runs through the network."""
    network, brought = model.model.diffusion_model, other_nodes.modules_of_patches(model)
    return _each(
        borrowed([(network, partial(alias, dtype=dtype)), (model.model.model_sampling, alias)]),
        borrowed([(module, partial(alias, dtype=dtype)) for module in brought]),
        other_nodes.without_dropout(brought),
        _computing_in(model.model, dtype),
        full_precision_products(network),
        ready_for_backward(*([] if is_unet(network) else [network])),
        recomputing(blocks_of(network) if recompute or _keeps_casts(model.model, dtype) else []),
    )


def _borrowed_text(clip, dtype):
    """The context in which autograd runs through the text encoders."""
    text, found = clip.cond_stage_model, encoders(clip)
    large = [encoder for encoder in found.values() if not encoder.is_clip]
    uncast = {id(encoder.embedding.weight) for encoder in found.values()}
    uncast |= {id(weight) for encoder in large for weight in (*encoder.module.parameters(), *encoder.module.buffers())}

    def once(weight):
        # The host computes the text encoder in float32 and casts what it holds, mostly half precision, at every call:
        # cast CLIP's once instead. Of the token tables it casts only the rows that it looks up.
        return alias(weight, None if id(weight) in uncast else dtype or torch.float32)

    return _each(
        borrowed([(text, once)]),
        _encoding_in(found.values(), dtype),
        ready_for_backward(text),
        recomputing([block for encoder in large for block in blocks_of(encoder.module.transformer)], sequential=True),
    )


def _keeps_casts(base_model, dtype):
    """Whether autograd would keep a cast copy of every weight: of 8 bits or fewer, or of a large network's."""
    network = base_model.diffusion_model
    if any(type(w) not in (torch.Tensor, torch.nn.Parameter) for w in network.parameters()):
        return True
    if dtype is not None:
        return False
    small = any(w.is_floating_point() and w.element_size() == 1 for w in network.parameters())
    return small or (base_model.manual_cast_dtype is not None and not is_unet(network))


@contextlib.contextmanager
def _computing_in(base_model, dtype):
    """Let the host's model compute in another dtype than its weights were loaded in; None changes nothing."""
    before = base_model.diffusion_model.dtype, base_model.manual_cast_dtype
    if dtype is not None:
        base_model.diffusion_model.dtype, base_model.manual_cast_dtype = dtype, None
    try:
        yield
    finally:
        base_model.diffusion_model.dtype, base_model.manual_cast_dtype = before


@contextlib.contextmanager
def _encoding_in(found, dtype):
    """Let the layers of the text encoders compute in a dtype: the host hands them float32; None changes nothing."""

    def cast(_, args, kwargs):
        return [_to(dtype, value) for value in args], {name: _to(dtype, value) for name, value in kwargs.items()}

    first = [layer for e in found for layer in blocks_of(e.module.transformer)] if dtype is not None else []
    hooks = [layer.register_forward_pre_hook(cast, with_kwargs=True) for layer in first]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _to(dtype, value):
    return value.to(dtype) if torch.is_tensor(value) and value.is_floating_point() else value
