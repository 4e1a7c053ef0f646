import hashlib

import torch
from comfy_api.latest import io

from ..reversion_core.errors import ReVersionError, check_choice
from ..reversion_core.exemplars import (
    FITS,
    LARGEST_SIDE,
    Exemplars,
    exemplar_notes,
    filled_lines,
    of_each,
    pictures_of,
    read_folder,
    template,
)
from ..reversion_core.store.files import states_of
from ..reversion_core.store.reading import Unreadable
from . import places
from .progress import as_sentences, show_text
from .sockets import ExemplarsSocket

CATEGORY = "ReVersion/learn"
PREVIEW_SIDE = 512
MORE_PICTURES = tuple(f"picture_{i}" for i in range(2, 11))


def _size_inputs():
    return [
        io.Int.Input(
            "size",
            default=0,
            min=0,
            max=LARGEST_SIDE,
            step=8,
            tooltip="Side of the training pictures in pixels. 0: what the model was trained at (512 for SD 1.x), "
            "but never larger than your pictures.",
        ),
        io.Combo.Input(
            "fit",
            options=list(FITS),
            default=FITS[0],
            tooltip="How a picture becomes square: crop its middle, or pad it with white. It is never squashed.",
        ),
    ]


def _checked(size, fit, node):
    """The size as it is trained, a multiple of 8. Raises a ReVersionError for one, or a fit, that the node has not."""
    check_choice(fit, FITS, node, "fit")
    if not 0 <= size <= LARGEST_SIDE:
        raise ReVersionError(node, "size", f"{size} is not a size", f"choose 0, or 8 to {LARGEST_SIDE} pixels")
    return max(int(size) // 8 * 8, 8) if size else 0


def _said(exemplars, heading, node, input_name):
    """(what there is to know of the exemplars, each picture with its captions), as texts; the second is a list."""
    found = [
        f"- {name} ({p.shape[1]} x {p.shape[0]}): {' | '.join(captions)}"
        for name, p, captions in zip(exemplars.names, exemplars.pictures, exemplars.captions, strict=True)
    ]
    return as_sentences([heading, *exemplar_notes(exemplars, node, input_name)]), "\n".join(found)


class ReVersionLoadExemplars(io.ComfyNode):
    NAME = "ReVersion Load Exemplars"

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ReVersionLoadExemplars",
            display_name=cls.NAME,
            category=CATEGORY,
            description="Reads a folder of pictures that share a relation, with their captions.",
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=places.picture_folders() or [places.NONE],
                    tooltip="A folder in ComfyUI's input folder with 4 to 10 pictures. Beside each a .txt of the same "
                    "name with its caption, such as cat {} stone; {} stands for the relation. Or write the captions "
                    "into the box below.",
                ),
                *_size_inputs(),
                io.String.Input(
                    "captions",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="Captions instead of those in the folder: a line a picture, in the order of their names; "
                    "{} stands for the relation. A single line is for all pictures, and all lines are for a single "
                    "picture. Empty: the captions of the folder.",
                ),
            ],
            outputs=[
                ExemplarsSocket.Output("exemplars_out", display_name="exemplars", tooltip="For ReVersion Train."),
                io.Image.Output(
                    "pictures", display_name="pictures", tooltip="The pictures as the model will see them."
                ),
                io.String.Output(
                    "report", display_name="report", tooltip="What was found: each picture with its captions."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, folder):
        return places.validation(places.exemplar_folder, folder, cls.NAME)

    @classmethod
    def fingerprint_inputs(cls, folder, size, fit, captions=""):
        if folder is None:  # it comes from another node, and is not known yet
            return float("nan")
        states = states_of(places.files_in(places.exemplar_folder(folder, cls.NAME)))
        return hashlib.sha256(ascii(states).encode()).hexdigest()

    @classmethod
    def execute(cls, folder, size, fit, captions=""):
        size = _checked(size, fit, cls.NAME)
        path = places.exemplar_folder(folder, cls.NAME)
        exemplars = read_folder(path, cls.NAME, lines=captions, size=size, fit=fit)
        known, found = _said(exemplars, f"{len(exemplars.names)} exemplars in '{folder}'", cls.NAME, "folder")
        preview = torch.from_numpy(exemplars.fitted(exemplars.training_size(PREVIEW_SIDE)))
        # Paragraphs and a list: Preview Any reads Markdown.
        report = "\n\n".join([*known.splitlines(), found])
        return io.NodeOutput(exemplars, preview, report, ui=show_text(cls, known))


class ReVersionExemplars(io.ComfyNode):
    NAME = "ReVersion Exemplars"

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ReVersionExemplars",
            display_name=cls.NAME,
            category=CATEGORY,
            description="Makes exemplars from pictures and captions that come from other nodes.",
            is_input_list=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Image.Input(
                    "images",
                    tooltip="4 to 10 pictures that share a relation: a batch or a list, any sizes. For one or two, "
                    "ReVersion Train has the preset 'one picture'.",
                ),
                io.String.Input(
                    "captions",
                    multiline=True,
                    default="cat {} stone",
                    tooltip="One line a picture, in their order; {} stands for the relation. A single line is for all "
                    "pictures, and all lines are for a single picture. A list of texts gives each "
                    "picture its own captions, one a line.",
                ),
                *_size_inputs(),
                *(
                    io.Image.Input(name, optional=True, tooltip="One more picture, or more: they follow those before.")
                    for name in MORE_PICTURES
                ),
            ],
            outputs=[ExemplarsSocket.Output("exemplars_out", display_name="exemplars", tooltip="For ReVersion Train.")],
        )

    @classmethod
    def execute(cls, images, captions, size, fit, **more):
        size = _checked(size[0], fit[0], cls.NAME)
        notes, pictures = [], []
        for name, batches in {"images": images, **{name: more.get(name) or () for name in MORE_PICTURES}}.items():
            for batch in batches:
                pictures += cls._pictures_of(batch, name, notes)
        names = tuple(f"picture {i + 1}" for i in range(len(pictures)))
        templates = cls._templates(captions, names)
        exemplars = Exemplars(names, tuple(pictures), templates, size, fit[0], tuple(notes))
        known, found = _said(exemplars, f"{len(names)} exemplars", cls.NAME, "images")
        return io.NodeOutput(exemplars, ui=show_text(cls, f"{known}\n{found}"))

    @classmethod
    def _pictures_of(cls, batch, name, notes):
        try:
            return list(pictures_of(batch, lambda text: notes.append(f"a picture of {name} {text}")))
        except Unreadable as error:
            raise ReVersionError(cls.NAME, name, f"it cannot be read ({error})", error.cure) from error

    @classmethod
    def _templates(cls, captions, names):
        """A tuple of captions for each picture, from a list of texts or the lines of one text."""
        texts = [filled_lines(text) for text in captions]
        try:
            if len(texts) == 1:
                found = of_each(texts[0], names)
                texts = [found.get(name, []) for name in names]
            if len(texts) != len(names):
                raise ValueError(f"there are {len(names)} pictures and {len(texts)} captions")
        except ValueError as error:
            raise ReVersionError(cls.NAME, "captions", str(error), "give one for each picture") from error
        if empty := [name for name, of_one in zip(names, texts, strict=True) if not of_one]:
            problem = f"{empty[0]} has no caption"
            raise ReVersionError(cls.NAME, "captions", problem, "write one with {} where the relation stands")
        return tuple(
            tuple(template(caption, cls.NAME, "captions", name) for caption in of_one)
            for name, of_one in zip(names, texts, strict=True)
        )
