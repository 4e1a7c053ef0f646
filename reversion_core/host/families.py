"""What of the host's models a relation can live in."""

import comfy.model_sampling
import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.supported_models

from ..errors import ReVersionError
from ..store.relation import FAMILY_OF_ENCODERS
from .tokens import encoder_keys, token_table

# The host's class of a family, and the pixels it was trained at: predicting noise, predicting v.
FAMILIES = {
    comfy.supported_models.SD15: ("SD 1.x", 512, 512),
    comfy.supported_models.SD20: ("SD 2.x", 512, 768),
    comfy.supported_models.SDXL: ("SDXL", 1024, 1024),
}
_NAMES = tuple(name for name, *_ in FAMILIES.values())
_SUPPORTED = f"{', '.join(_NAMES[:-1])} or {_NAMES[-1]}"


def family_of(model, node, input_name="model"):
    """(name, native pixels) of the model's family. Raises a ReVersionError that names an unsupported one."""
    config = model.model.model_config
    if type(config) not in FAMILIES:
        raise ReVersionError(
            node,
            input_name,
            f"the model family {type(config).__name__} is not supported",
            f"load a checkpoint of {_SUPPORTED}",
        )
    if model.model.concat_keys:
        raise ReVersionError(
            node, input_name, "an inpainting model cannot learn a relation", f"load a plain one of {_SUPPORTED}"
        )
    name, native, native_of_v = FAMILIES[type(config)]
    predicts_v = isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.V_PREDICTION)
    return name, native_of_v if predicts_v else native


def check_clip(clip, node, input_name="clip"):
    """The family whose text encoders a CLIP has. Raises a ReVersionError where a relation cannot live in them."""
    if clip is None:
        raise ReVersionError(
            node, input_name, "the checkpoint has no text encoder", "load it with a CLIP Loader or another checkpoint"
        )
    encoder, keys = clip.cond_stage_model, tuple(sorted(encoder_keys(clip)))
    known = isinstance(encoder, (comfy.sd1_clip.SD1ClipModel, comfy.sdxl_clip.SDXLClipModel))
    if not known or (family := FAMILY_OF_ENCODERS.get(keys)) not in _NAMES:
        name = type(encoder).__name__.rstrip("_")
        raise ReVersionError(
            node, input_name, f"the text encoder {name} is not supported", f"use the CLIP of an {_SUPPORTED} checkpoint"
        )
    return family


def check_pair(model, clip, node):
    """(family, native pixels) of MODEL and CLIP; raises a ReVersionError where they are of different families."""
    family, native = family_of(model, node)
    if (of_clip := check_clip(clip, node)) != family:
        raise ReVersionError(
            node, "clip", f"it is of {of_clip} and the model of {family}", "take both from the same checkpoint"
        )
    return family, native


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


def discrete_sampling(model, node, input_name="model"):
    """The model's sampling over discrete timesteps (EPS or V). Raises a ReVersionError where f(t) has no meaning."""
    sampling = model.get_model_object("model_sampling")
    plain = isinstance(sampling, comfy.model_sampling.ModelSamplingDiscrete)
    if not plain or isinstance(sampling, comfy.model_sampling.ModelSamplingDiscreteEDM):
        kind = type(sampling).__mro__[1].__name__
        raise ReVersionError(
            node, input_name, f"a model with {kind} has no timesteps to focus on", "load an SD 1.x, 2.x or SDXL model"
        )
    return sampling
