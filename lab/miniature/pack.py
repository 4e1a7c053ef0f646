"""The miniature's weights: compact for the repository, assembled to a normal checkpoint for the host.

`python -m lab.miniature.pack assemble FILE` writes the checkpoint, `--family sd3` that of another form; it is skipped
where FILE is newer than the weights.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save, save_file

from lab.miniature.forms import FORMS, SHARED, Form
from reversion_core.store.files import whole_file

VOCABULARY, TEXT_WIDTH, TEXT_LAYERS = 49408, 768, 12
# Large matrices are kept in 8 bits with a scale a row, everything else in 16, and what has columns of any size.
QUANTISE_FROM = 65536
NOT_QUANTISED = ("text.rows", "mmdit.context_embedder.weight")


def quantise(tensor):
    """float [rows, ...] -> int8 of the same shape and float32 scales [rows]."""
    rows = tensor.float().flatten(1)
    scale = rows.abs().amax(1).clamp(min=1e-12) / 127
    return torch.round(rows / scale[:, None]).to(torch.int8).view_as(tensor), scale


def write_compact(tensors, token_ids, path):
    """tensors: trained weights by name; token_ids: the CLIP token of each row of `text.rows`."""
    packed = {"token_ids": torch.tensor(token_ids, dtype=torch.int32)}
    for name, tensor in tensors.items():
        if tensor.ndim >= 2 and tensor.numel() >= QUANTISE_FROM and name not in NOT_QUANTISED:
            packed[name], packed[f"{name}.scale"] = quantise(tensor.contiguous())
        else:
            packed[name] = tensor.half().contiguous()
    save_file(packed, path)


def read_compact(path=SHARED):
    """(weights by name in float32, token id of each row of `text.rows`)."""
    packed = load_file(path)
    token_ids = packed.pop("token_ids").long()
    scales = {name: packed.pop(name) for name in list(packed) if name.endswith(".scale")}
    tensors = {name: tensor.float() for name, tensor in packed.items()}
    for name, scale in scales.items():
        name = name.removesuffix(".scale")
        tensors[name] *= scale.view(-1, *[1] * (tensors[name].ndim - 1))
    return tensors, token_ids


def read_form(form: Form):
    """The weights of a form by name, and the token ids, as `read_compact`; a part of a later file replaces."""
    tensors, token_ids = read_compact(form.weights[0])
    for path in form.weights[1:]:
        more, _ = read_compact(path)
        replaced = {name.split(".")[0] for name in more}
        tensors = {name: tensor for name, tensor in tensors.items() if name.split(".")[0] not in replaced} | more
    return tensors, token_ids


def assemble(tensors, token_ids, form: Form = FORMS["sd1"]):
    """State dict of the checkpoint, float16, under the host's keys."""
    checkpoint = _network(tensors) | _text(tensors, token_ids, form.text) | _first_stage(tensors, form)
    return {name: tensor.half().contiguous() for name, tensor in checkpoint.items()}


def _network(tensors):
    """The MMDiT where there is one, else the UNet."""
    from lab.miniature.denoiser import CENTRE_ONLY
    from lab.miniature.mmdit import PADDED

    part = "mmdit." if any(name.startswith("mmdit.") for name in tensors) else "unet."
    result = {}
    for name, tensor in tensors.items():
        if name.startswith(part):
            name = name.removeprefix(part)
            if name.removesuffix(".weight") in CENTRE_ONLY:
                tensor = torch.nn.functional.pad(tensor, (1, 1, 1, 1))
            if width := PADDED.get(name):
                tensor = torch.nn.functional.pad(tensor, (0, width - tensor.shape[1]))
            result[f"model.diffusion_model.{name}"] = tensor
    return result


def _text(tensors, token_ids, prefix):
    rows = tensors["text.rows"]
    # Words that the world does not use get random embeddings of the trained ones' mean norm.
    table = np.random.default_rng(0).standard_normal((VOCABULARY, TEXT_WIDTH), dtype=np.float32)
    table *= float(rows.norm(dim=1).mean()) / TEXT_WIDTH**0.5
    table = torch.from_numpy(table)
    table[token_ids] = rows
    result = {
        f"{prefix}.embeddings.token_embedding.weight": table,
        f"{prefix}.embeddings.position_embedding.weight": tensors["text.position"],
    }
    layers = {n.removeprefix("text.layers."): t for n, t in tensors.items() if n.startswith("text.layers.")}
    template = {n.removeprefix("0."): t for n, t in layers.items() if n.startswith("0.")}
    trained = 1 + max(int(n.split(".")[0]) for n in layers)
    for i in range(TEXT_LAYERS):
        for name, tensor in template.items():
            # A layer that adds nothing to its residuals is the identity.
            tensor = layers[f"{i}.{name}"] if i < trained else torch.zeros_like(tensor)
            result[f"{prefix}.encoder.layers.{i}.{name}"] = tensor
    for part in ("weight", "bias"):
        result[f"{prefix}.final_layer_norm.{part}"] = tensors[f"text.final_layer_norm.{part}"]
    return result


def _first_stage(tensors, form):
    result = {n.removeprefix("vae."): t for n, t in tensors.items() if n.startswith("vae.")}
    result["vae_scale"], result["vae_shift"] = torch.tensor(form.latent_scale), torch.tensor(form.latent_shift)
    return {f"first_stage_model.{name}": tensor for name, tensor in result.items()}


def check_trained(form: Form):
    """Raises FileNotFoundError where the form was not trained yet."""
    if missing := [weights.name for weights in form.weights if not weights.exists()]:
        raise FileNotFoundError(f"{missing[0]} is not there yet: `python -m lab.miniature.train` makes it")


def chosen_form(parser: argparse.ArgumentParser, family: str) -> Form:
    """The form of a family that a command was given; ends the command with a sentence where it was not trained yet."""
    try:
        check_trained(FORMS[family])
    except FileNotFoundError as error:
        parser.error(str(error))
    return FORMS[family]


def write_checkpoint(path, form: Form = FORMS["sd1"]):
    """Assemble the checkpoint at `path`, unless it is there and newer than the compact weights.

    Raises FileNotFoundError where the form was not trained yet.
    """
    path = Path(path)
    check_trained(form)
    if path.exists() and path.stat().st_mtime > max(weights.stat().st_mtime for weights in form.weights):
        return
    with whole_file(path) as file:
        file.write(save(assemble(*read_form(form), form), metadata={"modelspec.title": "ReVersion miniature"}))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["assemble"])
    parser.add_argument("path", type=Path)
    parser.add_argument("--family", choices=FORMS, default="sd1")
    arguments = parser.parse_args()
    write_checkpoint(arguments.path, chosen_form(parser, arguments.family))


if __name__ == "__main__":
    main()
