"""Checks that a model and its text encoders can be trained with or used."""

import comfy.model_sampling

from .. import families
from ..errors import ReVersionError
from ..method.focal import Focal, distribution
from .encoders import encoder_of, encoders
from .other_nodes import check_other_nodes

# What the host finds out of Qwen-Image-Edit 2511 and of Qwen-Image-Layered; of others that edit it knows no difference.
_OF_EDITING = {"default_ref_method": "index_timestep_zero", "use_additional_t_cond": True}
# Of SD 1.x at the published alpha, as the share of noise in a picture: sigma / (1 + sigma), and a flow's sigma.
PUBLISHED_MEAN_NOISE = 0.676


def family_of(model, node: str, input_name: str = "model") -> tuple[str, int]:
    """(name, native pixels) of the model's family. Raises a ReVersionError that names an unsupported one."""
    config = type(model.model.model_config).__name__
    family = families.of_config(config)
    cure = f"load a checkpoint of {families.ONE_OF_THEM}"
    if family is None:
        problem = f"the model family {config} is not supported"
        if reason := families.reason_against(config):
            problem = f"{problem}, since {reason}"
        raise ReVersionError(node, input_name, problem, cure)
    if model.model.concat_keys:
        raise ReVersionError(node, input_name, "an inpainting model cannot learn a relation", cure)
    sizes = model.model.model_config.unet_config
    if family.name == "Flux.1" and sizes.get("in_channels", 0) > sizes.get("out_channels", 0):
        problem = "a model that a picture steers, such as Canny or Depth, cannot learn a relation"
        raise ReVersionError(node, input_name, problem, cure)
    if any(sizes.get(key) == value for key, value in _OF_EDITING.items()):
        raise ReVersionError(node, input_name, "a model that edits pictures cannot learn a relation", cure)
    predicts_v = isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.V_PREDICTION)
    return family.name, family.native_size_v or family.native_size if predicts_v else family.native_size


def usual_alpha(model) -> float:
    """The focal law's alpha with which the mean noise is the paper's, in 0 .. 1 and to two digits.

    That is the published 0.5 but for flow models, whose sampling may be shifted towards high noise: the mean of their
    noise levels is linear in alpha.
    """
    sampling = model.get_model_object("model_sampling")
    if not isinstance(sampling, comfy.model_sampling.CONST):
        return Focal().alpha
    sigmas = sampling.sigmas.double().cpu()
    uniform, focal = (float((distribution(len(sigmas), Focal(alpha)) * sigmas).sum()) for alpha in (0.0, 1.0))
    return round(min(max((PUBLISHED_MEAN_NOISE - uniform) / (focal - uniform), 0.0), 1.0), 2)


def families_of_clip(clip, node: str, input_name: str = "clip") -> tuple[families.Family, ...]:
    """The families whose text encoders a CLIP has, at least one. Raises a ReVersionError where there is none."""
    if clip is None:
        raise ReVersionError(
            node, input_name, "the checkpoint has no text encoder", "load it with a CLIP Loader or another checkpoint"
        )
    kind = type(clip.cond_stage_model).__name__
    if not (found := families.of_clip(kind, encoders(clip))):
        name = kind.rstrip("_")
        problem = f"the text encoder {name} is not supported"
        if "mistral3_24b" in encoders(clip):
            problem = "the text encoder of Flux.2 dev is too large to learn through"
        raise ReVersionError(node, input_name, problem, f"use the CLIP of an {families.ONE_OF_THEM} checkpoint")
    return found


def check_clip(clip, node: str, input_name: str = "clip") -> str:
    """The name of the first family whose text encoders a CLIP has. Raises a ReVersionError where there is none."""
    return families_of_clip(clip, node, input_name)[0].name


def check_pair(model, clip, node: str) -> tuple[str, int]:
    """(family, native pixels) of MODEL and CLIP.

    Raises a ReVersionError where they are of different families, or where a node has done something to them that
    cannot be trained through.
    """
    family, native = family_of(model, node)
    of_clip = [found.name for found in families_of_clip(clip, node)]
    if family not in of_clip:
        raise ReVersionError(
            node,
            "clip",
            f"it is of {' or '.join(of_clip)} and the model of {family}",
            "take both from the same checkpoint",
        )
    check_other_nodes(model, clip, node)
    return family, native


def check_fits(relation, clip, node: str, input_name: str = "relation") -> str:
    """A sentence where the file says that the relation is of another family, "" else.

    Raises a ReVersionError unless the relation has exactly the vectors that this CLIP's encoders take.
    """
    found = encoders(clip)
    if sorted(relation.vectors) != sorted(found):
        raise ReVersionError(
            node,
            input_name,
            f"it is for {relation.family} ({', '.join(relation.vectors)}) and this CLIP takes {', '.join(found)}",
            "use the kind of checkpoint it was learned with",
        )
    for key in found:
        width, wanted = relation.vectors[key].shape[-1], encoder_of(clip, key).embedding.weight.shape[-1]
        if width != wanted:
            raise ReVersionError(
                node,
                input_name,
                f"its vectors have {width} numbers and this CLIP takes {wanted}",
                "use the kind of checkpoint it was learned with",
            )
    told = relation.metadata.get("reversion.base_family")
    of_clip = [family.name for family in families.of_clip(type(clip.cond_stage_model).__name__, found)]
    if told not in families.NAMES or told in of_clip or not of_clip:
        return ""
    kinds = " or ".join(of_clip)
    return f"This relation was learned with {told} and this CLIP is of {kinds}: it may mean little there."
