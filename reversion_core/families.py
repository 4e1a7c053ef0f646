"""The model families that a relation can be learned with, a row each, and those that are refused.

Pure data: classes of the host are named, not imported, since an older host lacks some of them. What the code can find
out from the loaded models themselves (tokens, conditioning, sampling, latents) is not written down here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

# Of the token embeddings that a relation's vectors stand among: encoder key of the host -> numbers of a vector.
WIDTHS = {
    "clip_l": 768,
    "clip_g": 1280,
    "clip_h": 1024,
    "t5xxl": 4096,
    "pile_t5xl": 2048,
    "gemma2_2b": 2304,
    "qwen3_06b": 1024,
    "qwen3_4b": 2560,
    "qwen3_8b": 4096,
    "qwen25_7b": 3584,
}

# What OneTrainer and diffusers call them in embedding files.
OTHER_NAMES = {"t5xxl": "t5", "gemma2_2b": "gemma"}


@dataclass(frozen=True)
class Family:
    """One family, with what the host's loaded model does not tell."""

    name: str  # for artists
    configs: tuple[str, ...]  # the host's classes of `comfy.supported_models`
    clips: tuple[str, ...]  # the host's classes of the text encoders, without a final underscore
    encoders: tuple[str, ...]  # keys of WIDTHS
    architecture: str  # for `modelspec.architecture`
    native_size: int = 1024  # side in pixels that it was trained at
    native_size_v: int = 0  # the same of its checkpoints that predict v, 0 where there is no difference
    size_multiple: int = 16  # a side in pixels is a multiple of it
    smallest_size: int = 0  # side in pixels below which the host cannot compute it
    all_encoders: bool = True  # whether each of its encoders must be there
    constant_conditioning: dict[str, float] = field(default_factory=dict)  # what every training step is given
    preview_cfg: float = 5.0  # guidance of previews
    prompt_prefix: str = ""  # what the host's own prompt nodes for it write before a prompt
    pooled_only: tuple[str, ...] = ()  # encoders of which one vector counts: that of the first 77 tokens
    embedding_syntax_works: bool = True  # whether `embedding:NAME` works in the host's own prompts
    default_for_its_encoders: bool = False  # what a file is taken for that holds vectors for just these encoders
    tested: bool = False  # docs/benchmark.md measures it, on a tiny model; else it is experimental
    note: str = ""  # what the artist should know


_DISTILLED = "distilled checkpoints, made for a few steps, learn less well than the ones that they were made from"
_UNGUIDED = f"{_DISTILLED}; previews are drawn without guidance, which suits these, and look washed out of the others"

_PROMPT_START = "<Prompt Start>"  # of Lumina 2's prompts

FAMILIES = (
    Family(
        "SD 1.x",
        ("SD15",),
        ("SD1ClipModel",),
        ("clip_l",),
        "stable-diffusion-v1/textual-inversion",
        native_size=512,
        size_multiple=8,
        default_for_its_encoders=True,
        tested=True,
    ),
    Family(
        "SD 2.x",
        ("SD20",),
        ("SD2ClipModel",),
        ("clip_h",),
        "stable-diffusion-v2-768-v/textual-inversion",
        native_size=512,
        native_size_v=768,
        size_multiple=8,
        default_for_its_encoders=True,
    ),
    Family(
        "SDXL",
        ("SDXL",),
        ("SDXLClipModel",),
        ("clip_g", "clip_l"),
        "stable-diffusion-xl-v1-base/textual-inversion",
        size_multiple=8,
        default_for_its_encoders=True,
    ),
    Family(
        "SD 3.x",
        ("SD3",),
        ("SD3ClipModel",),
        ("clip_g", "clip_l", "t5xxl"),
        "stable-diffusion-v3/textual-inversion",
        all_encoders=False,
    ),
    Family(
        "Flux.1",
        ("Flux", "FluxSchnell"),
        ("FluxClipModel",),
        ("clip_l", "t5xxl"),
        "flux-1-dev/textual-inversion",
        # Flux dev was distilled with guidance; 1 is what its fine-tuners train at (black-forest-labs/flux, issue 79).
        constant_conditioning={"guidance": 1.0},
        preview_cfg=1.0,
        pooled_only=("clip_l",),
        default_for_its_encoders=True,
        note=_DISTILLED,
    ),
    Family("Chroma", ("Chroma",), ("PixArtTEModel", "PixArtT5XXL"), ("t5xxl",), "chroma/textual-inversion"),
    Family(
        "Z-Image",
        ("ZImage",),
        ("ZImageTEModel",),
        ("qwen3_4b",),
        "z-image/textual-inversion",
        preview_cfg=1.0,
        embedding_syntax_works=False,
        note=_UNGUIDED,
    ),
    Family(
        "Anima", ("Anima",), ("AnimaTEModel",), ("qwen3_06b",), "anima/textual-inversion", embedding_syntax_works=False
    ),
    Family(
        "Flux.2 Klein",
        ("Flux2",),
        ("Flux2TEModel",),
        ("qwen3_4b", "qwen3_8b"),
        "flux-2-klein/textual-inversion",
        all_encoders=False,
        preview_cfg=1.0,
        embedding_syntax_works=False,
        note=_UNGUIDED,
    ),
    Family(
        "Qwen-Image",
        ("QwenImage",),
        ("QwenImageTEModel",),
        ("qwen25_7b",),
        "qwen-image/textual-inversion",
        native_size=1328,
        embedding_syntax_works=False,
    ),
    Family(
        "AuraFlow",
        ("AuraFlow",),
        ("AuraT5Model",),
        ("pile_t5xl",),
        "auraflow-v1/textual-inversion",
        embedding_syntax_works=False,
    ),
    Family(
        "PixArt",
        ("PixArtAlpha", "PixArtSigma"),
        ("PixArtTEModel", "PixArtT5XXL"),
        ("t5xxl",),
        "pixart-sigma/textual-inversion",
        smallest_size=272,  # the host divides by the latents' side, rounded to a multiple of 64
    ),
    Family(
        "Lumina 2",
        ("Lumina2",),
        ("LuminaTEModel",),
        ("gemma2_2b",),
        "lumina-2/textual-inversion",
        prompt_prefix="You are an assistant designed to generate superior images with the superior degree of "
        f"image-text alignment based on textual prompts or user prompts. {_PROMPT_START} ",
        note="captions are learned behind the system prompt 'superior' of CLIP Text Encode for Lumina2: use it too",
        embedding_syntax_works=False,
    ),
)

_EDITS = "it makes a picture from another picture"
_VIDEO = "it makes video"
_PIXELS = "it works on pixels without a VAE"
_SOUND = "it makes sound"
_NO_CLIP = "it is not steered by a text encoder's words alone"
# Class of the host's configuration -> why a relation cannot be learned with it.
REFUSED = {
    "SDXLRefiner": "it only refines pictures that another model began",
    "SD21UnclipL": _NO_CLIP,
    "SD21UnclipH": _NO_CLIP,
    "SD15_instructpix2pix": _EDITS,
    "SDXL_instructpix2pix": _EDITS,
    "SD_X4Upscaler": _EDITS,
    "LotusD": _EDITS,
    "Stable_Cascade_B": "it only refines what stage C began",
    "SVD_img2vid": _VIDEO,
    "SV3D_u": _VIDEO,
    "SV3D_p": _VIDEO,
    "Stable_Zero123": _NO_CLIP,
    "FluxInpaint": _EDITS,
    "HiDream": "its four text encoders do not fit a graphics card together with it",
    "Kolors": "ComfyUI does not have its text encoder",
    "PixelDiTT2I": _PIXELS,
    "PiD": _PIXELS,
    "ChromaRadiance": _PIXELS,
    "ZImagePixelSpace": _PIXELS,
    "HiDreamO1": _PIXELS,
    "StableAudio": _SOUND,
    "StableAudio3": _SOUND,
    "ACEStep": _SOUND,
    "ACEStep15": _SOUND,
    "GenmoMochi": _VIDEO,
    "LTXV": _VIDEO,
    "LTXAV": _VIDEO,
    "MiniMaxH3": _VIDEO,
    "CosmosT2V": _VIDEO,
    "CosmosI2V": _VIDEO,
    "CosmosI2VPredict2": _VIDEO,
    "Kandinsky5": _VIDEO,
}
_REFUSED_PREFIXES = {"WAN": _VIDEO, "HunyuanVideo": _VIDEO, "Hunyuan3D": "it makes shapes", "CogVideo": _VIDEO}

NAMES = tuple(family.name for family in FAMILIES)
ONE_OF_THEM = f"{', '.join(NAMES[:-1])} or {NAMES[-1]}"


def named(name: str) -> Family | None:
    """The family of this name."""
    return next((family for family in FAMILIES if family.name == name), None)


def of_config(name: str) -> Family | None:
    """The family whose models have this class of the host's configuration."""
    return next((family for family in FAMILIES if name in family.configs), None)


def of_encoders(keys: Iterable[str]) -> tuple[Family, ...]:
    """The families that have a relation with vectors for just these text encoders."""
    keys = set(keys)
    return tuple(
        family
        for family in FAMILIES
        if keys == set(family.encoders) or (not family.all_encoders and keys and keys < set(family.encoders))
    )


def of_clip(class_name: str, keys: Iterable[str]) -> tuple[Family, ...]:
    """The families whose text encoders have this class of the host and these keys."""
    return tuple(family for family in of_encoders(keys) if class_name.rstrip("_") in family.clips)


def whole_prompt(family: Family | None, text: str) -> str:
    """A caption or prompt as a family's model expects it: behind the words that its prompts begin with."""
    prefix = family.prompt_prefix if family else ""
    return text if _PROMPT_START in text else prefix + text


def reason_against(config: str) -> str:
    """Why a relation cannot be learned with a model of this class of the host, empty where nothing is known."""
    by_prefix = (why for prefix, why in _REFUSED_PREFIXES.items() if config.startswith(prefix))
    return REFUSED.get(config, "") or next(by_prefix, "")
