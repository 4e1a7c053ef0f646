"""Embedding files in the layouts that other programs write: ComfyUI, WebUI, diffusers, kohya, OneTrainer, cog, and the
published script.

First the container is read (safetensors, or a pickle of tensors), by what the file is and not by its suffix; then the
layout, a table of small readers. Sizes are looked at before anything is read into memory.
"""

import os
import pickle
import pickletools
import re
import struct
import zipfile

import torch
from safetensors import safe_open

from .. import families
from .reading import Unreadable, content, open_file, text_content

READ_SUFFIXES = (".safetensors", ".pt", ".bin", ".pti", ".pth", ".ckpt")
LARGEST_FILE = 2**30  # bytes; the published script leaves 152 MB on a CPU, of which one row is mapped
LARGEST_UNMAPPED = 64 * 2**20  # bytes that are read into memory at once
LARGEST_PICKLE = 2**20  # bytes of the pickle in a file of torch, which describes the tensors
LARGEST_TENSOR = 2**20  # numbers; larger ones stay unread, only their shape is looked at

NO_EMBEDDING = "choose an embedding, such as ReVersion Save Relation writes"
ONE_EACH = "save the one you want in a file of its own"
SAFE_FORMAT = "save it as safetensors where it was made"

# All that pickles of embeddings name. Whatever else torch allows can be told to fill the memory.
_PICKLED = re.compile(
    r"torch \w+Storage|torch (Size|device)|torch\._utils _rebuild_(tensor(_v2)?|parameter)"
    r"|torch\._tensor _rebuild_from_type_v2|torch\.nn\.parameter Parameter|torch Tensor"
    r"|torch\.nn\.modules\.container ParameterDict|collections OrderedDict|(__builtin__|builtins) set"
)

# Key of a file -> the host's key of the text encoder: OneTrainer and diffusers have names of their own for some.
_ENCODERS = {key: key for key in families.WIDTHS} | {other: key for key, other in families.OTHER_NAMES.items()}

# Of files that do not name their encoder; other encoders' widths are not unique.
_ENCODER_OF_WIDTH = {families.WIDTHS[key]: key for key in ("clip_l", "clip_h", "clip_g")}
# Of those with vectors of one encoder alone: the first that has them, so T5's for 4096.
_LIKELY_OF_WIDTH = {width: key for key, width in reversed(families.WIDTHS.items())} | _ENCODER_OF_WIDTH

# What a key that is no embedding says of a file: what the file is, what to do.
_OTHER_FILES = (
    (r"^(t5xxl|t5|llama|gemma\w*|qwen\w*)$", "it is for a model with another text encoder", NO_EMBEDDING),
    (r"lora_|\.lora|lokr_|hada_|to_[kqv]_lora", "it is a LoRA", "use it in Load LoRA"),
    (r"^(model\.diffusion_model|unet|down_blocks|double_blocks)\.", "it is a diffusion model", "load it as one"),
    (r"^(first_stage_model|encoder\.down|decoder)\.", "it is a VAE", "use it in Load VAE"),
    (r"^(cond_stage_model|text_model|transformer|encoder\.block)\.", "it is a text encoder", "use it in Load CLIP"),
    (r"exp_avg|momentum_buffer|^(optimizer|param_groups)", "it is the state of an optimizer", NO_EMBEDDING),
    (r"^(control_model|controlnet_)", "it is a ControlNet", "use it in Load ControlNet Model"),
)


def read(path):
    """(encoder key -> tensor, metadata, notes) of an embedding file. The tensors are as the file has them, unchecked.

    Raises Unreadable.
    """
    found, metadata = _content_of(path)
    tensors = {key: value for key, value in _flat(found).items() if value.ndim and value.numel() != 1}
    keys = _layout(tensors)
    used = {key for of_one in keys.values() for key in of_one}
    # Other programs' second names of what was read, as our own files have them, are not worth a note.
    unused = [key for key in tensors if key not in used and _ENCODERS.get(key) not in keys]
    notes = [f"not used: {', '.join(unused)[:200]}"] if unused else []
    return {encoder: _rows(tensors, of_one) for encoder, of_one in keys.items()}, metadata, notes


def other_half(path, encoders):
    """(file name, its vectors) of an SDXL embedding's other file, or None.

    encoders: the keys of what `path` itself holds.
    """
    missing = {("clip_l",): "clip_g", ("clip_g",): "clip_l"}.get(tuple(encoders))
    for other in possible_halves(path) if missing else ():
        try:
            vectors, _, _ = read(other)
        except Unreadable:
            continue
        if tuple(vectors) == (missing,):
            return other.name, vectors
    return None


def possible_halves(path):
    """The files that may be the other half of an embedding in two files, by how programs call these."""
    base, steps = re.fullmatch(r"(.*?)(-steps-\d+)?", path.stem.casefold(), re.DOTALL).groups()
    names = [f"{base}_2", base.removesuffix("_2")]
    for first, second in (("clip_l", "clip_g"), ("te1", "te2"), ("_1", "_2"), ("-1", "-2")):
        names += [base.replace(first, second), base.replace(second, first)]
    for first, second in (("_l", "_g"), ("_g", "_l"), ("-l", "-g"), ("-g", "-l")):
        names += [base.removesuffix(first) + second] if base.endswith(first) else []
    wanted = [f"{name}{steps or ''}" for name in dict.fromkeys(names) if name not in ("", base)]
    try:
        there = sorted(path.with_name(name) for name in os.listdir(path.parent))
    except OSError:
        return []
    fitting = [p for p in there if p.stem.casefold() in wanted and p.suffix.lower() in READ_SUFFIXES]
    # Of several, those come first that are called most like this one.
    fitting.sort(key=lambda p: (wanted.index(p.stem.casefold()), p.suffix != path.suffix))
    return [other for other in fitting if os.path.isfile(other)]


def _flat(found):
    """Key -> tensor of what a file holds: a tensor alone, a dict, one within it, or a list of some."""
    if isinstance(found, torch.Tensor):
        found = {"the only one": found}
    if isinstance(found, list):
        parts = [one for one in found if isinstance(one, dict)]
        found = {f"{i}.{key}": value for i, part in enumerate(parts) for key, value in part.items()}
    if isinstance(found, dict):  # WebUI's, and checkpoints of trainers
        found = next((found[key] for key in ("string_to_param", "state_dict") if key in found), found)
    if isinstance(found, torch.nn.ParameterDict):
        found = vars(found).get("_parameters")  # old ones lack what its own methods look for
    if not isinstance(found, dict):
        raise Unreadable("unknown layout", NO_EMBEDDING)
    return {str(key): value for key, value in found.items() if isinstance(value, torch.Tensor)}


def _layout(tensors):
    """Encoder key -> the keys of its tensors, one after another."""
    for layout in (_named, _bundled, _by_width, _numbered):
        if keys := layout(tensors):
            return keys
    for pattern, what, cure in _OTHER_FILES:
        if any(re.search(pattern, key) for key in tensors):
            raise Unreadable(what, cure)
    if len(tensors) > 1 and all(_could_be_one(tensor) for tensor in tensors.values()):
        raise Unreadable(f"it holds several embeddings: {', '.join(tensors)[:200]}", ONE_EACH)
    among = f" among {', '.join(tensors)[:100]}" if tensors else ""
    raise Unreadable(f"no embedding found{among}", NO_EMBEDDING)


def _named(tensors):
    """ComfyUI, kohya, OneTrainer (whose `clip_l_out` stays unused): a key for each text encoder, some in two names."""
    if any(re.search(_OTHER_FILES[0][0], key) and key not in _ENCODERS for key in tensors):
        return None
    found = {}
    for key in tensors:
        encoder = _ENCODERS.get(key)
        if encoder and (key == encoder or encoder not in found):
            found[encoder] = [key]
    return found


def _bundled(tensors):
    """kohya and OneTrainer: inside a LoRA, as `bundle_emb.NAME.clip_l` or `bundle_emb.NAME.string_to_param.*`."""
    inside = re.compile(rf"bundle_emb\.(.+?)\.({'|'.join(_ENCODERS)}|string.+)")
    found = {key: match for key in tensors if (match := inside.fullmatch(key))}
    if len({match[1] for match in found.values()}) > 1:
        names = ", ".join(dict.fromkeys(match[1] for match in found.values()))
        raise Unreadable(f"it holds several embeddings: {names[:200]}", ONE_EACH)
    inner = {match[2]: tensors[key] for key, match in found.items() if not key.endswith("_out")}
    keys = _named(inner) or _by_width(inner) or {}
    whole = {match[2]: key for key, match in found.items()}
    return {encoder: [whole[key] for key in of_one] for encoder, of_one in keys.items()}


def _by_width(tensors):
    """WebUI, diffusers, cog (.pti), the authors: any names, one for each text encoder, told apart by their width."""
    ours = [key for key in tensors if not key.endswith("_out")]
    encoders = [_ENCODER_OF_WIDTH.get(tensors[key].shape[-1]) for key in ours]
    if len(ours) == 1:
        if _is_of_other_files(ours[0]):
            return None
        return {_LIKELY_OF_WIDTH.get(tensors[ours[0]].shape[-1], "clip_l"): ours}
    told_apart = None not in encoders and len(set(encoders)) == len(encoders)
    return {encoder: [key] for encoder, key in zip(encoders, ours, strict=True)} if told_apart else None


def _is_of_other_files(key):
    """Whether no embedding is called so; words in angle brackets are."""
    return not key.startswith("<") and any(re.search(pattern, key) for pattern, _, _ in _OTHER_FILES)


def _could_be_one(tensor):
    return tensor.shape[-1] in _ENCODER_OF_WIDTH and tensor.numel() // tensor.shape[-1] <= 75


def _numbered(tensors):
    """diffusers: the vectors of one word, one each, as `<r>`, `<r>_1`, `<r>_2`."""
    keys = sorted(tensors, key=len)
    wanted = [keys[0], *(f"{keys[0]}_{i}" for i in range(1, len(keys)))] if keys else []
    sizes = {(tensors[key].shape[-1], tensors[key].numel()) for key in keys}
    width, numbers = sizes.pop() if len(sizes) == 1 else (0, 0)
    encoder = _ENCODER_OF_WIDTH.get(width) if width == numbers else None
    return {encoder: wanted} if encoder and set(wanted) == set(keys) else None


def _rows(tensors, keys):
    if len(keys) == 1:
        return tensors[keys[0]]
    return torch.cat([tensors[key].reshape(-1, tensors[key].shape[-1]) for key in keys])


def _content_of(path):
    """(what the file holds, its metadata). Nothing but tensors is ever built, and only as much as is mapped."""
    with open_file(path, LARGEST_FILE) as file:
        head = file.read(512)
        size = file.seek(0, 2)
        try:
            if head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= size:
                return _safetensors(path)
            if zipfile.is_zipfile(file):
                return _torch_zip(path, file, size), {}
            if head.startswith(b"\x80"):
                return _old_pickle(file, size), {}
        except Unreadable:
            raise
        except pickle.UnpicklingError as error:
            raise Unreadable("it holds more than numbers and was not opened", SAFE_FORMAT) from error
        except Exception as error:  # damaged files raise nearly everything in torch
            raise Unreadable("it is damaged", "download it or save it again") from error
    what, cure = content(head) or text_content(head) or ("damaged", "download it or save it again")
    raise Unreadable(f"it is {what}", cure)


def _safetensors(path):
    with safe_open(path, framework="pt", device="cpu") as file:
        found = {}
        for key in file.keys():  # noqa: SIM118
            shape = file.get_slice(key).get_shape()
            small = torch.Size(shape).numel() <= LARGEST_TENSOR
            found[key] = file.get_tensor(key) if small else torch.empty(shape, device="meta")
        return found, file.metadata() or {}


def _torch_zip(path, file, size):
    """A file of torch.save, mapped where it is large: only the numbers that are looked at are read."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        pickles = [member for member in members if member.filename.endswith("/data.pkl")]
        if not pickles:
            raise Unreadable("it is an archive", "unpack it")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise Unreadable("it is compressed", SAFE_FORMAT)
        for member in pickles:
            if member.file_size > LARGEST_PICKLE:
                raise Unreadable("it holds more than an embedding", NO_EMBEDDING)
            with archive.open(member) as data:
                _check_pickle(data)
    file.seek(0)
    return _load(file) if size <= LARGEST_UNMAPPED else _load(path, mmap=True)


def _old_pickle(file, size):
    """A file of torch.save before 1.6: five pickles, then the numbers."""
    if size > LARGEST_UNMAPPED:
        raise Unreadable(f"it is larger than {LARGEST_UNMAPPED // 2**20} MB", SAFE_FORMAT)
    file.seek(0)
    for _ in range(5):
        if file.tell() < size:
            _check_pickle(file)
    file.seek(0)
    return _load(file)


def _check_pickle(file):
    """Read a pickle's words, running none; raises Unreadable where it names anything but tensors."""
    for count, (code, argument, _) in enumerate(pickletools.genops(file)):
        if code.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4") or count > LARGEST_PICKLE // 8:
            raise Unreadable("it holds more than numbers and was not opened", SAFE_FORMAT)
        if code.name == "GLOBAL" and not _PICKLED.fullmatch(argument):
            raise Unreadable(f"it holds more than numbers and was not opened: {argument[:80]}", SAFE_FORMAT)


def _load(source, **options):
    if not hasattr(torch.serialization, "safe_globals"):
        raise Unreadable(f"it needs torch 2.5 or newer, and this is {torch.__version__}", "update torch")
    with torch.serialization.safe_globals([torch.nn.ParameterDict]):
        return torch.load(source, map_location="cpu", weights_only=True, **options)
