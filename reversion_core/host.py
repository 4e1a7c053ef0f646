"""The one module that touches comfy: the host's loaded model, borrowed for autograd."""

import contextlib
import copy
import hashlib
import json
import re

import comfy.ldm.modules.attention
import comfy.model_management
import comfy.model_sampling
import comfy.sampler_helpers
import comfy.samplers
import comfy.sd1_clip
import comfy.supported_models
import torch

from .errors import ReVersionError
from .words import INITIAL_WORD, PLACEHOLDER, SLOT

# The host's classes of a family, its name, and the pixels it was trained at.
FAMILIES = {comfy.supported_models.SD15: ("SD 1.x", 512)}
TOKEN_WINDOW = 77


class _TokenizerWithRelations:
    """A CLIP tokenizer that also knows placeholders: their vectors take the place of token ids.

    It stands in for the Hugging Face tokenizer of a *copy* of the host's tokenizer, so that the host's own parsing of
    weights and its packing into windows of 77 tokens stay in charge.
    """

    def __init__(self, tokenizer, vectors):
        self._tokenizer = tokenizer
        self._vectors = vectors  # placeholder -> float32 [k, d]

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def __call__(self, text, **kwargs):
        pattern = "|".join(re.escape(p) for p in sorted(self._vectors, key=len, reverse=True))
        pieces = re.split(f"({pattern})", text)
        if len(pieces) == 1:
            return self._tokenizer(text, **kwargs)
        start, end = self._tokenizer("")["input_ids"]
        ids = [start]
        for piece in pieces:
            if piece in self._vectors:
                ids.extend(self._vectors[piece])
            elif piece.strip():
                ids.extend(self._tokenizer(piece)["input_ids"][1:-1])
        return {"input_ids": [*ids, end]}


def encoder_keys(clip):
    """The host's keys of a CLIP's text encoders, such as ["clip_l"]."""
    return [key for key in ("clip_l", "clip_g", "clip_h") if hasattr(clip.tokenizer, key)]


def with_relation(clip, placeholder, vectors):
    """A clone of the host's CLIP in whose prompts `placeholder` is the given vectors (encoder key -> [k, d]).

    The incoming CLIP and its tokenizer are left as they are; the text encoder's weights are shared.
    """
    clone = clip.clone()
    clone.tokenizer = copy.copy(clip.tokenizer)
    for key, rows in vectors.items():
        encoder = copy.copy(getattr(clip.tokenizer, key))
        known = encoder.tokenizer
        earlier = known._vectors if isinstance(known, _TokenizerWithRelations) else {}
        plain = known._tokenizer if isinstance(known, _TokenizerWithRelations) else known
        encoder.tokenizer = _TokenizerWithRelations(plain, {**earlier, placeholder: rows})
        setattr(clone.tokenizer, key, encoder)
    return clone


def family_of(model, node, input_name="model"):
    """(name, native pixels) of the model's family. Raises a ReVersionError that names an unsupported one."""
    config = model.model.model_config
    supported = ", ".join(name for name, _ in FAMILIES.values())
    if type(config) not in FAMILIES:
        raise ReVersionError(
            node, input_name, f"the model family {type(config).__name__} is not supported", f"load one of {supported}"
        )
    if model.model.concat_keys:
        raise ReVersionError(
            node, input_name, "an inpainting model cannot learn a relation", f"load a plain one of {supported}"
        )
    return FAMILIES[type(config)]


def check_clip(clip, node, input_name="clip"):
    """Raises a ReVersionError unless the text encoder is one whose input embeddings a relation can live in."""
    if clip is None:
        raise ReVersionError(
            node, input_name, "the checkpoint has no text encoder", "load it with a CLIP Loader or another checkpoint"
        )
    encoder = clip.cond_stage_model
    if not isinstance(encoder, comfy.sd1_clip.SD1ClipModel) or encoder_keys(clip) != ["clip_l"]:
        name = type(encoder).__name__.rstrip("_")
        raise ReVersionError(
            node, input_name, f"the text encoder {name} is not supported", "use the CLIP of an SD 1.x checkpoint"
        )


def token_table(clip, key):
    """The input token embeddings of an encoder, [vocabulary, d], as the host holds them."""
    return getattr(clip.cond_stage_model, key).transformer.get_input_embeddings().weight


def token_ids(clip, key, word):
    """The token ids of a word for an encoder, without the special ones."""
    return getattr(clip.tokenizer, key).tokenizer(word)["input_ids"][1:-1]


def word_rows(clip, key, words):
    """Input token embedding of each word, float32 [words, d]; a word of several tokens is the mean of its tokens."""
    table = token_table(clip, key)
    rows = [table[token_ids(clip, key, word)].float().mean(0) for word in words]
    return torch.stack(rows) if rows else table.new_zeros(0, table.shape[1], dtype=torch.float32)


def check_fits(relation, clip, node, input_name="relation"):
    """Raises a ReVersionError unless the relation has exactly the vectors that this CLIP's encoders take."""
    keys = encoder_keys(clip)
    if sorted(relation.vectors) != sorted(keys):
        raise ReVersionError(
            node,
            input_name,
            f"it is for {relation.family} ({', '.join(relation.vectors)}) and this CLIP takes {', '.join(keys)}",
            "use the kind of checkpoint it was learned with",
        )
    for key in keys:
        width, wanted = relation.vectors[key].shape[-1], token_table(clip, key).shape[-1]
        if width != wanted:
            raise ReVersionError(
                node,
                input_name,
                f"its vectors have {width} numbers and this CLIP takes {wanted}",
                "use the kind of checkpoint it was learned with",
            )


def at_strength(relation, clip, strength):
    """The relation's vectors between the word it started from (strength 0) and itself (1), and beyond.

    Directions are interpolated on the sphere and norms linearly; strength 1 gives the very same numbers.
    """
    if strength == 1:
        return relation.vectors
    word = json.loads(relation.metadata.get("reversion.settings", "{}")).get("initial_word", INITIAL_WORD)
    return {
        key: slerp(word_rows(clip, key, [word]).to(vectors), vectors, strength)
        for key, vectors in relation.vectors.items()
    }


def slerp(start, end, share):
    """Spherical interpolation of directions and linear interpolation of norms: [..., d] each, share may exceed 1."""
    start_norm, end_norm = start.norm(dim=-1, keepdim=True), end.norm(dim=-1, keepdim=True)
    a, b = start / start_norm, end / end_norm
    angle = torch.arccos((a * b).sum(-1, keepdim=True).clamp(-1 + 1e-7, 1 - 1e-7))
    direction = (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)
    return direction * (start_norm + share * (end_norm - start_norm)).clamp(min=0)


def _alias(tensor, dtype):
    """A normal tensor without gradient over the storage of a parameter or buffer, cast only where dtype asks for it."""
    normal = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    normal.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())
    return normal.to(dtype) if dtype is not None and tensor.is_floating_point() else normal


@contextlib.contextmanager
def borrowed(modules):
    """Let autograd run through modules whose weights are inference tensors: (module, dtype or None) pairs.

    Every parameter and buffer is stood in for by a normal tensor over the same memory (a temporary copy where a
    dtype is asked for) and put back afterwards, whatever happens. Nothing is written to the weights.
    """
    taken = []
    try:
        for module, dtype in modules:
            for part in module.modules():
                for held in (part._parameters, part._buffers):
                    for name, tensor in held.items():
                        if tensor is not None:
                            taken.append((held, name, tensor))
                            held[name] = _alias(tensor, dtype)
        yield
    finally:
        for held, name, tensor in reversed(taken):
            held[name] = tensor


@contextlib.contextmanager
def training_mode():
    """Gradients on, the host's non-differentiable kernels off (where it has the switch), and back again."""
    management = comfy.model_management
    before = getattr(management, "in_training", None)
    if before is not None:
        management.in_training = True
    try:
        # CLIP adds its residuals in place, which autograd allows only under this.
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autograd.graph.allow_mutation_on_saved_tensors(),
        ):
            yield
    finally:
        if before is not None:
            management.in_training = before


def load_for_training(model, clip):
    """MODEL and CLIP wholly on their devices, in forms that do not move weights about during a step."""
    if hasattr(model, "is_dynamic") and model.is_dynamic():
        model = model.clone(disable_dynamic=True)
    if hasattr(clip.patcher, "is_dynamic") and clip.patcher.is_dynamic():
        clip = clip.clone(disable_dynamic=True)
    comfy.model_management.load_models_gpu([model, clip.patcher], force_full_load=True)
    return model, clip


def posterior(vae, pixels):
    """Mean and standard deviation of the first stage's posterior for pixels [n, h, w, 3] in 0..1.

    The host's own `encode` does the work (device, dtype, tiling); a hook reads the moments it computes on the way.
    A first stage without a posterior (TAESD) has standard deviation 0. float32 [n, c, h / 8, w / 8] each.
    """
    moments = []
    regularization = getattr(vae.first_stage_model, "regularization", None)
    hook = regularization and regularization.register_forward_hook(
        lambda module, inputs, output: moments.append(inputs[0].float().cpu())
    )
    try:
        means = torch.cat([vae.encode(picture[None]).float().cpu() for picture in pixels])
    finally:
        if hook:
            hook.remove()
    std = torch.zeros_like(means)
    # Tiled encoding after running out of memory gives moments of tiles: then the mean alone is used.
    if len(moments) == len(means):
        log_variance = torch.cat(moments).chunk(2, dim=1)[1]
        if log_variance.shape == means.shape:
            std = torch.exp(0.5 * log_variance.clamp(-30, 20))
    return means, std


def scaled_posterior(model, vae, pixels):
    """`posterior` in the scale that the model is trained in."""
    mean, std = posterior(vae, pixels)
    scaled = model.model.process_latent_in(mean)
    return scaled, model.model.process_latent_in(mean + std) - scaled


def fingerprint(*modules):
    """Hash of the weights a run depends on: shapes and 64 evenly spaced values of every tensor, as hex."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            flat = tensor.detach().flatten()
            picked = flat[:: max(len(flat) // 64, 1)][:64].float().cpu()
            digest.update(f"{name} {tuple(tensor.shape)}".encode() + picked.numpy().tobytes())
    return digest.hexdigest()


def _pytorch_attention(_, *args, **kwargs):
    return comfy.ldm.modules.attention.attention_pytorch(*args, **kwargs)


def caption_windows(clip, captions, vectors):
    """The host's tokens of each caption template: encoder name -> first window of 77.

    Where vector i of the relation goes stands the marker (encoder key, i).
    """
    markers = {key: [(key, i) for i in range(vectors)] for key in encoder_keys(clip)}
    marked = with_relation(clip, PLACEHOLDER, markers)
    prompts = (caption.replace(SLOT, PLACEHOLDER) for caption in captions)
    return [
        {name: [token for token, _ in first] for name, (first, *_) in marked.tokenize(p, disable_weights=True).items()}
        for p in prompts
    ]


def check_windows(windows, captions, vectors, node, input_name="exemplars"):
    """Raises a ReVersionError for a caption so long that the relation is cut off."""
    for window, caption in zip(windows, captions, strict=True):
        for tokens in window.values():
            if sum(isinstance(token, tuple) for token in tokens) < vectors:
                raise ReVersionError(
                    node,
                    input_name,
                    f"the caption '{caption[:60]}...' is longer than {TOKEN_WINDOW} tokens and its {{}} comes too late",
                    "shorten it",
                )


class HostModel:
    """The loaded model as the trainer sees it. Its methods work only inside `borrowing`."""

    def __init__(self, model, clip, windows):
        """windows: the captions' tokens from `caption_windows`."""
        self._model = model.model
        self._clip = clip
        self._windows = windows
        self._device = model.load_device
        self._sampling = model.get_model_object("model_sampling")
        # The host's sub-quadratic attention picks its chunks by free memory; this one always computes the same.
        options = model.model_options.get("transformer_options", {})
        self._options = {**options, "optimized_attention_override": _pytorch_attention}

    @property
    def timesteps(self):
        return len(self._sampling.sigmas)

    @property
    def vocabulary_norms(self):
        """Encoder key -> mean L2 norm of its vocabulary, a scalar tensor."""
        return {key: token_table(self._clip, key).float().norm(dim=-1).mean().cpu() for key in encoder_keys(self._clip)}

    def encode(self, captions, relation):
        """Text features of some captions (by number) with the live R: {"cross_attn": [captions, 77, d]}.

        relation: encoder key -> [k, d], on any device; gradients reach it.
        """
        encoder = self._clip.cond_stage_model
        encoder.reset_clip_options()
        options = {"execution_device": self._clip.patcher.load_device}
        if self._clip.layer_idx is not None:
            options["layer"] = self._clip.layer_idx
        encoder.set_clip_options(options)
        # The host encodes the windows of a long prompt in one batch; here each window is a caption.
        batch = {name: [] for name in self._windows[0]}
        for window in (self._windows[i] for i in captions):
            for name, tokens in window.items():
                batch[name].append([(_live(token, relation), 1.0) for token in tokens])
        try:
            features = encoder.encode_token_weights(batch)[0]
        finally:
            encoder.reset_clip_options()
        return {"cross_attn": features.unflatten(1, (len(captions), TOKEN_WINDOW))[0]}

    def predict(self, x0, noise, timesteps, features):
        """The model's prediction and its target for latents [b, c, h, w], noise alike and timesteps int64 [b].

        For EPS models the noise, for V models v = (noise - sigma x0) / sqrt(sigma^2 + 1); float32 [b, c, h, w] each.
        """
        x0, noise = x0.to(self._device), noise.to(self._device)
        sigma = self._sampling.sigma(timesteps.to(self._device).float())
        wide = sigma[:, None, None, None]
        x_t = x0 + wide * noise
        denoised = self._model.apply_model(x_t, sigma, transformer_options=self._options, **self._conds(x_t, features))
        if isinstance(self._sampling, comfy.model_sampling.V_PREDICTION):
            scale = (wide**2 + 1).sqrt()
            return (x_t / scale - denoised * scale) / wide, (noise - wide * x0) / scale
        return (x_t - denoised) / wide, noise

    def _conds(self, x_t, features):
        """The keyword arguments of `apply_model` for text features, as the host's sampler prepares them."""
        conds = comfy.sampler_helpers.convert_cond([[features["cross_attn"], {}]])
        conds = comfy.samplers.encode_model_conds(self._model.extra_conds, conds, x_t, self._device, "positive")
        return {
            name: cond.process_cond(batch_size=len(x_t), device=self._device, area=None).cond
            for name, cond in conds[0]["model_conds"].items()
        }


def _live(token, relation):
    """The vector of R that a marker stands for; any other token as it is."""
    return relation[token[0]][token[1]] if isinstance(token, tuple) else token


@contextlib.contextmanager
def borrowing(model, clip, windows, precision="auto"):
    """A HostModel over MODEL and CLIP from `load_for_training`, with autograd through both; all is put back afterwards.

    precision: "auto" computes in the dtypes that the host chose; "fp32" in temporary float32 copies of the weights.
    """
    unet, text = model.model.diffusion_model, clip.cond_stage_model
    full = torch.float32 if precision == "fp32" else None
    # The host holds the text encoder in half precision and casts it at every call: cast it once instead.
    with (
        training_mode(),
        borrowed([(unet, full), (model.model.model_sampling, None), (text, torch.float32)]),
        _computing_in(model.model, full),
    ):
        yield HostModel(model, clip, windows)


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
