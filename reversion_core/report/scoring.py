"""Scores of pictures by a CLIP of `transformers`: are the entities there, and does the relation hold this way round?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..errors import ReVersionError
from ..method.words import PLACEHOLDER, SLOT, swapped
from ..prompts import syntax

if TYPE_CHECKING:
    from transformers import CLIPModel, CLIPProcessor

BATCH = 16


@dataclass(frozen=True)
class Phrases:
    """What a picture is compared with: both entities, the relation in words, and the same with the entities swapped."""

    entities: str
    asked: str
    swapped: str


def phrases(prompt: str, phrase: str, placeholder: str = PLACEHOLDER) -> Phrases:
    """The Phrases of a prompt such as "cat <R> stone, at night" and words for its relation such as "carved from".

    Weights such as (cat:1.3) and LoRA tags are left out: CLIP would read them as words.

    Raises ValueError where the prompt does not have the placeholder between two entities.
    """
    before, found, after = syntax.plain(prompt).partition(placeholder)
    first, second = before.strip(" ,"), after.partition(",")[0].strip()
    if not (found and first and second):
        raise ValueError(f"'{prompt}' has no {placeholder} between two entities")
    template = f"{first} {SLOT} {second}"
    return Phrases(f"{first}, {second}", template.replace(SLOT, phrase), swapped(template).replace(SLOT, phrase))


def load(folder: str | Path, node: str) -> "tuple[CLIPModel, CLIPProcessor]":
    """(CLIPModel, CLIPProcessor) of `transformers` from a local folder; nothing is ever downloaded."""
    from transformers import CLIPModel, CLIPProcessor

    try:
        model = CLIPModel.from_pretrained(folder, local_files_only=True)
        processor = CLIPProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:160]
        raise ReVersionError(
            node, "clip_folder", f"'{folder}' does not load as CLIP ({reason})", "download its folder again"
        ) from error
    return model.eval(), processor


@torch.inference_mode()
def scores(
    model: "CLIPModel", processor: "CLIPProcessor", pictures: Sequence[np.ndarray], wanted: Sequence[Phrases]
) -> tuple[np.ndarray, np.ndarray]:
    """(entity scores, relation scores), float32 [n] each, of pictures (uint8 [h, w, 3]) and their Phrases.

    entity: cosine of picture and entities; relation: cosine with the asked phrase minus that with the swapped one.
    model, processor: CLIPModel and CLIPProcessor of `transformers`.
    """
    entity, relation = [], []
    for start in range(0, len(pictures), BATCH):
        some = wanted[start : start + BATCH]
        texts = [text for p in some for text in (p.entities, p.asked, p.swapped)]
        inputs = processor(
            text=texts, images=pictures[start : start + BATCH], return_tensors="pt", padding=True, truncation=True
        )
        seen = model(**inputs.to(model.device))
        cosines = (seen.image_embeds[:, None] * seen.text_embeds.unflatten(0, (-1, 3))).sum(-1).float().cpu()
        entity.append(cosines[:, 0])
        relation.append(cosines[:, 1] - cosines[:, 2])
    return np.concatenate(entity), np.concatenate(relation)
