"""The host's model as the trainer sees it."""

import contextlib
from functools import partial

import comfy.clip_model
import comfy.ldm.modules.attention
import comfy.model_sampling
import comfy.sampler_helpers
import comfy.samplers
import torch
import torch.nn.functional as F

from .borrowing import alias, borrowed, training_mode
from .memory import recomputing
from .tokens import encoder_keys, token_table

# Where the host's tokenizers put the tokens of an encoder.
_TOKENS_OF = {"clip_l": "l", "clip_g": "g", "clip_h": "h"}


def _pytorch_attention(_, *args, **kwargs):
    return comfy.ldm.modules.attention.attention_pytorch(*args, **kwargs)


class HostModel:
    """The loaded model as the trainer sees it. Its methods work only inside `borrowing`."""

    def __init__(self, model, clip, tokens):
        """tokens: of the captions, from `caption_tokens`."""
        self._model = model.model
        self._clip = clip
        self._tokens = tokens
        self._device = model.load_device
        self._sampling = model.get_model_object("model_sampling")
        # The host's sub-quadratic attention picks its chunks by free memory; this one always computes the same.
        options = model.model_options.get("transformer_options", {})
        self._options = {**options, "optimized_attention_override": _pytorch_attention}

    @property
    def timesteps(self):
        return len(self._sampling.sigmas)

    @property
    def computes_in_fp16(self):
        """Whether the UNet computes in float16, in which small gradients are 0."""
        return (self._model.manual_cast_dtype or self._model.diffusion_model.dtype) == torch.float16

    def recording(self):
        """The context of a forward pass and its backward pass.

        What a patch of the UNet changes in place is not known: torch then watches every operation, in Python, for
        the time that takes. Enter it anew for each update: what torch notes is freed only when it is left.
        """
        patched = self._options.keys() & {"patches", "patches_replace"}
        return torch.autograd.graph.allow_mutation_on_saved_tensors() if patched else contextlib.nullcontext()

    def encode(self, captions, relation):
        """Text features of some captions (by number) with the live R.

        relation: encoder key -> [k, d], on any device; gradients reach it. Returns for each caption {"cross_attn":
        [1, 77, d]} and, for SDXL, {"pooled_output": [1, 1280]}.
        """
        encoder = self._clip.cond_stage_model
        encoder.reset_clip_options()
        options = {"execution_device": self._clip.patcher.load_device}
        if self._clip.layer_idx is not None:
            options["layer"] = self._clip.layer_idx
        encoder.set_clip_options(options)
        tokens = [self._tokens[i] for i in captions]
        try:
            features = {
                key: getattr(encoder, key).encode(
                    [[_live(token, relation) for token in of_one[_TOKENS_OF[key]]] for of_one in tokens]
                )
                for key in encoder_keys(self._clip)
            }
        finally:
            encoder.reset_clip_options()
        result = {"cross_attn": torch.cat([found[0] for found in features.values()], -1)}
        if "clip_g" in features:
            result["pooled_output"] = features["clip_g"][1]
        return [{name: value[i : i + 1] for name, value in result.items()} for i in range(len(captions))]

    def prediction_error(self, x0, noise, timesteps, features):
        """The error of the model's own prediction, for latents and noise [b, c, h, w] and timesteps int64 [b].

        Of the noise for EPS models, of v = (noise - sigma x0) / sqrt(sigma^2 + 1) for V models; features: of each
        sample's caption, from `encode`. float32 [b, c, h, w].
        """
        x0, noise = x0.to(self._device), noise.to(self._device)
        sigma = self._sampling.sigma(timesteps.to(self._device).float())
        wide = sigma[:, None, None, None]
        x_t = x0 + wide * noise
        features = {name: torch.cat([of_one[name] for of_one in features]) for name in features[0]}
        denoised = self._model.apply_model(x_t, sigma, transformer_options=self._options, **self._conds(x_t, features))
        if isinstance(self._sampling, comfy.model_sampling.V_PREDICTION):
            scale = (wide**2 + 1).sqrt()
            return ((x_t / scale - denoised * scale) / wide - (noise - wide * x0) / scale).float()
        return ((x_t - denoised) / wide - noise).float()

    def _conds(self, x_t, features):
        """The keyword arguments of `apply_model` for text features, as the host's sampler prepares them."""
        pooled = {name: value for name, value in features.items() if name != "cross_attn"}
        conds = comfy.sampler_helpers.convert_cond([[features["cross_attn"], pooled]])
        conds = comfy.samplers.encode_model_conds(self._model.extra_conds, conds, x_t, self._device, "positive")
        return {
            name: cond.process_cond(batch_size=len(x_t), device=self._device, area=None).cond
            for name, cond in conds[0]["model_conds"].items()
        }


def _live(token, relation):
    """The vector of R that a marker stands for; any other token as it is."""
    return relation[token[0]][token[1]] if isinstance(token, tuple) else token


@contextlib.contextmanager
def borrowing(model, clip, tokens, dtype=None, recompute=False):
    """A HostModel over MODEL and CLIP from `load_for_training`, with autograd through both; all is put back afterwards.

    dtype: to compute in, by temporary copies of the weights; None computes in those that the host chose. Text features
    and losses are float32 in any case. recompute: trade time for memory, see `memory.recomputing`.
    """
    unet, text = model.model.diffusion_model, clip.cond_stage_model
    tables = {id(token_table(clip, key)) for key in encoder_keys(clip)}

    def once(weight):
        # The host computes the text encoder in float32 and casts what it holds, mostly half precision, at every call:
        # cast it once instead. Of the token tables it casts only the rows that it looks up.
        return alias(weight, None if id(weight) in tables else dtype or torch.float32)

    with (
        training_mode(),
        borrowed([(unet, partial(alias, dtype=dtype)), (model.model.model_sampling, alias), (text, once)]),
        _computing_in(model.model, dtype),
        _encoding_in(clip, dtype),
        _ready_for_backward(clip),
        recomputing(unet) if recompute else contextlib.nullcontext(),
    ):
        yield HostModel(model, clip, tokens)


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
def _encoding_in(clip, dtype):
    """Let the layers of the text encoders compute in a dtype: the host hands them float32; None changes nothing."""

    def cast(_, args, kwargs):
        return [_to(dtype, value) for value in args], {name: _to(dtype, value) for name, value in kwargs.items()}

    hooks = [e.register_forward_pre_hook(cast, with_kwargs=True) for e in _encoders(clip)] if dtype is not None else []
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def _ready_for_backward(clip):
    """Let autograd go through the layers of the text encoders.

    They add to their input in place, so that the normalisations, whose backward passes need what they were given, get
    copies. And of the quick GELU, written in two operations, torch would keep twice what silu needs.
    """

    def copy(_, args):
        return tuple(value.clone() for value in args)

    layers = [layer for encoder in _encoders(clip) for layer in encoder.layers]
    norms = [norm for layer in layers for norm in (layer.layer_norm1, layer.layer_norm2)]
    quick = comfy.clip_model.ACTIVATIONS["quick_gelu"]
    perceptrons = [layer.mlp for layer in layers if layer.mlp.activation is quick]
    hooks = [norm.register_forward_pre_hook(copy) for norm in norms]
    try:
        for perceptron in perceptrons:
            perceptron.activation = _quick_gelu
        yield
    finally:
        for perceptron in perceptrons:
            perceptron.activation = quick
        for hook in hooks:
            hook.remove()


def _quick_gelu(x):
    """x sigmoid(1.702 x). Writes over x, which no backward pass needs."""
    return F.silu(x.mul_(1.702)).div_(1.702)


def _encoders(clip):
    return [getattr(clip.cond_stage_model, key).transformer.text_model.encoder for key in encoder_keys(clip)]


def _to(dtype, value):
    return value.to(dtype) if torch.is_tensor(value) else value
