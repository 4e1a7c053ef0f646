"""Scores of pictures by a CLIP of `transformers`: are the entities there, and does the relation hold this way round?"""

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..errors import ReVersionError
from ..method.words import COMMA, PLACEHOLDER, SLOT, swapped
from ..prompts import syntax
from ..store.reading import DOWNLOAD_AGAIN, content

if TYPE_CHECKING:
    from transformers import CLIPModel, CLIPProcessor

BATCH = 16
_OTHER_RELATION = syntax.SYNTAX["placeholder"]
_MARK = "\ue000"  # of no script
_AGAIN = "download its folder again"


@dataclass(frozen=True)
class Phrases:
    """What a picture is compared with: both entities, the relation in words, and the same with the entities swapped."""

    entities: str
    asked: str
    swapped: str


def phrases(prompt: str, phrase: str, placeholder: str = PLACEHOLDER) -> Phrases:
    """The Phrases of a prompt such as "cat <R> stone, at night" and words for its relation such as "carved from".

    Weights such as (cat:1.3) and LoRA tags are left out: CLIP would read them as words. Of several relations in a row
    those entities count that stand beside this one, and of lists with commas what stands next to it.

    Raises ValueError where the prompt does not have the placeholder between two entities.
    """
    # A word only where it stands by itself, which in scripts without spaces it does not; before embedding:NAME goes.
    alone = r"(?:(?<![\w-])|(?!\w))", r"(?:(?![\w-])|(?<!\w))"
    word = re.compile(re.escape(placeholder).join(alone), re.ASCII)
    before, found, after = syntax.plain(word.sub(_MARK, prompt, count=1)).partition(_MARK)
    first = re.split(COMMA, _OTHER_RELATION.split(before)[-1].strip(" ,\uff0c"))[-1].strip()
    second = re.split(COMMA, _OTHER_RELATION.split(after)[0])[0].strip()
    if not (found and first and second):
        raise ValueError(f"'{prompt}' has no {placeholder} between two entities")
    template = f"{first} {SLOT} {second}"
    return Phrases(f"{first}, {second}", template.replace(SLOT, phrase), swapped(template).replace(SLOT, phrase))


def load(folder: str | Path, node: str) -> "tuple[CLIPModel, CLIPProcessor]":
    """(CLIPModel, CLIPProcessor) of `transformers` from a local folder; nothing is ever downloaded."""
    from transformers import CLIPModel, CLIPProcessor

    try:
        model, about = CLIPModel.from_pretrained(folder, local_files_only=True, output_loading_info=True)
        processor = CLIPProcessor.from_pretrained(folder, local_files_only=True)
        cat, dog = (list(processor.tokenizer(word)["input_ids"]) for word in ("cat", "dog"))
    except Exception as error:  # damaged files raise nearly everything
        reason = _what_is_damaged(folder) or (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise ReVersionError(node, "clip_folder", f"'{folder}' does not load as CLIP ({reason})", _AGAIN) from error
    if missing := [key for key in about["missing_keys"] if not key.endswith("position_ids")]:
        problem = f"the weights in '{folder}' lack {len(missing)} parts of CLIP, such as {missing[0]}"
        raise ReVersionError(node, "clip_folder", problem, _AGAIN)
    if cat == dog:
        problem = f"the tokenizer in '{folder}' does not tell words apart"
        raise ReVersionError(node, "clip_folder", problem, f"{_AGAIN}, with its tokenizer")
    return model.eval(), processor


def _what_is_damaged(folder):
    """What a file of the folder is instead of what its name says, "" where none is."""
    for path in sorted(path for path in Path(folder).iterdir() if path.is_file()):
        with contextlib.suppress(OSError), path.open("rb") as file:
            found = content(file.read(200))
            if found and found[1] == DOWNLOAD_AGAIN:
                return f"{path.name} is {found[0]}"
    return ""


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
