"""What an artist should know before exemplars are trained on: the size, and what in their captions does nothing."""

import hashlib
import re
import statistics

from ..errors import ReVersionError
from ..method.words import SLOT
from ..prompts import syntax

SMALLEST_NATIVE = 512  # no family trains at less, so a picture of this size holds none back
FEWEST = 4  # pictures from which a relation can be told from the rest of what they show
VERY_FEW = 2  # pictures for which a preset is made
WORDS_READ = 75  # tokens of a prompt's first window, and a word is one at least
_MEANING = {
    "weight": "weights do not count in captions and are learned as letters",
    "extra network": "it is loaded by nodes, not by captions, and is learned as letters",
    "wildcard": "nothing fills it in, it is learned as letters",
    "keyword": "it does not divide captions and is learned as a word",
    "embedding": "it stands for that embedding, or for nothing where there is none",
    "escape": "the backslash is learned as a letter",
    "entity of HTML": "it is learned as letters",
    "placeholder": "only <R> and {} stand for the relation, it is learned as letters",
    "brace": "it is learned as letters",
    "option": "it is an option of another program and is learned as letters",
    "list mark": "the mark before the caption is learned as letters",
    "quotes": "the quotation marks are learned as letters",
    "file name": "the name of a file is learned as letters",
    "lost character": "a character was lost when the text was saved, write it again",
    "wrong encoding": "it looks like letters that were read in a wrong encoding, write them again",
}
_WORD = re.compile(r"\w")
# Scripts without spaces between words: a character is one token at least.
_UNIT = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")


def exemplar_notes(exemplars, node, input_name):
    """Sentences for the node's report. Raises a ReVersionError where one small picture would hold back all others."""
    _check_sizes(exemplars, node, input_name)
    return [_size(exemplars), *exemplars.notes, *_of_pictures(exemplars), *_of_captions(exemplars)]


def _check_sizes(exemplars, node, input_name):
    sides = [min(picture.shape[:2]) for picture in exemplars.pictures]
    number, side = exemplars.smallest()
    if not exemplars.size and 2 * side < statistics.median(sides) and side < SMALLEST_NATIVE:
        height, width = exemplars.pictures[number].shape[:2]
        most = exemplars.training_size(side)
        problem = f"{exemplars.names[number]} has {width} x {height} pixels, and all would train at {most} x {most}"
        raise ReVersionError(node, input_name, problem, "use a larger one, or enlarge it by choosing size")


def _size(exemplars):
    number, side = exemplars.smallest()
    height, width = exemplars.pictures[number].shape[:2]
    smallest = f"the smallest picture is {exemplars.names[number]} ({width} x {height})"
    if exemplars.size:
        enlarged = [
            n for n, p in zip(exemplars.names, exemplars.pictures, strict=True) if min(p.shape[:2]) < exemplars.size
        ]
        also = f", for which {len(enlarged)} of them are enlarged" if enlarged else ""
        return f"training size: {exemplars.size} x {exemplars.size} pixels as chosen{also}; {smallest}"
    most = exemplars.training_size(side)
    return f"training size: what the model was made for (512 for SD 1.x), at most {most} x {most} pixels; {smallest}"


def _of_pictures(exemplars):
    seen = {}
    for name, picture in zip(exemplars.names, exemplars.pictures, strict=True):
        seen.setdefault((picture.shape, hashlib.sha256(picture.tobytes()).digest()), []).append(name)
    for names in seen.values():
        if len(names) > 1:
            yield f"{', '.join(names[1:7])}: the same picture as {names[0]}; choose different ones"
    if len(seen) < FEWEST:
        count = "1 picture" if len(seen) == 1 else f"{len(seen)} different pictures"
        preset = "; for one or two choose the preset 'one picture' on ReVersion Train" if len(seen) <= VERY_FEW else ""
        yield f"{count}: the relation is hard to tell from their look; 4 to 10 are best{preset}"


def _of_captions(exemplars):
    examples, owners = {}, {}
    for name, captions in zip(exemplars.names, exemplars.captions, strict=True):
        for caption in captions:
            for kind, piece in syntax.found(caption).items():
                examples.setdefault(kind, piece)
                owners.setdefault(kind, []).append(name)
            before, _, after = caption.partition(SLOT)
            if not (_WORD.search(before) and _WORD.search(after)):
                side = "after" if _WORD.search(before) else "before"
                yield f"{caption[:60]!r} of {name} names nothing {side} {SLOT}: a relation stands between two entities"
            if (count := len(_UNIT.findall(caption))) > WORDS_READ:
                yield f"a caption of {name} has {count} words; Stable Diffusion 1.x, 2.x, XL read {WORDS_READ} at most"
    for kind, piece in examples.items():
        names = list(dict.fromkeys(owners[kind]))
        yield f"captions of {', '.join(names[:6])}: {piece[:60]!r}: {_MEANING[kind]}"
