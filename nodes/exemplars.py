import hashlib

import torch
from comfy_api.latest import io

from ..reversion_core.errors import ReVersionError, check_choice
from ..reversion_core.exemplars import FITS, Exemplars, read_folder, template
from . import places
from .sockets import ExemplarsSocket

CATEGORY = "ReVersion/learn"
PREVIEW_SIDE = 512


def _size_inputs():
    return [
        io.Int.Input(
            "size",
            default=0,
            min=0,
            max=1024,
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


class ReVersionLoadExemplars(io.ComfyNode):
    NAME = "ReVersion Load Exemplars"

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ReVersionLoadExemplars",
            display_name=cls.NAME,
            category=CATEGORY,
            description="Reads a folder of pictures that share a relation, with their captions.",
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=places.picture_folders(),
                    tooltip="A folder in ComfyUI's input folder with 4 to 10 pictures and their captions: text.json "
                    'such as {"0.jpg": ["cat {} stone"]}, or a .txt of the same name beside each picture, a caption a '
                    "line. {} stands for the relation.",
                ),
                *_size_inputs(),
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
    def fingerprint_inputs(cls, folder, size, fit):
        if folder is None:  # it comes from another node, and is not known yet
            return float("nan")
        digest = hashlib.sha256()
        for path in sorted(places.exemplar_folder(folder, cls.NAME).iterdir()):
            status = path.stat()
            digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}".encode())
        return digest.hexdigest()

    @classmethod
    def execute(cls, folder, size, fit):
        check_choice(fit, FITS, cls.NAME, "fit")
        names, pictures, captions = read_folder(places.exemplar_folder(folder, cls.NAME), cls.NAME)
        exemplars = Exemplars(names, pictures, captions, size, fit)
        lines = [f"{len(names)} exemplars in '{folder}'"]
        lines += [
            f"{name} ({p.shape[1]} x {p.shape[0]}): {' | '.join(c)}"
            for name, p, c in zip(names, pictures, captions, strict=True)
        ]
        preview = torch.from_numpy(exemplars.fitted(exemplars.training_size(PREVIEW_SIDE)))
        return io.NodeOutput(exemplars, preview, "\n".join(lines))


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
            inputs=[
                io.Image.Input(
                    "images", tooltip="4 to 10 pictures that share a relation: a batch or a list, any sizes."
                ),
                io.String.Input(
                    "captions",
                    multiline=True,
                    default="cat {} stone",
                    tooltip="One line a picture, in their order; {} stands for the relation. A single line is for all "
                    "pictures. A list of texts gives each picture its own captions, one a line.",
                ),
                *_size_inputs(),
            ],
            outputs=[ExemplarsSocket.Output("exemplars_out", display_name="exemplars", tooltip="For ReVersion Train.")],
        )

    @classmethod
    def execute(cls, images, captions, size, fit):
        check_choice(fit[0], FITS, cls.NAME, "fit")
        batch = [picture for image in images for picture in image]
        pictures = tuple(
            (picture[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy() for picture in batch
        )
        lines = cls._captions_of_each(captions, len(pictures))
        templates = tuple(tuple(template(c, cls.NAME, "captions") for c in of_one) for of_one in lines)
        names = tuple(f"picture {i + 1}" for i in range(len(pictures)))
        return io.NodeOutput(Exemplars(names, pictures, templates, size[0], fit[0]))

    @classmethod
    def _captions_of_each(cls, captions, count):
        """A tuple of captions for each of `count` pictures, from a list of texts or the lines of one text."""
        texts = [[line for line in text.splitlines() if line.strip()] for text in captions]
        if len(texts) == 1 and count > 1:
            texts = [[line] for line in texts[0]]
        if len(texts) == 1:
            texts *= count
        if len(texts) != count:
            raise ReVersionError(
                cls.NAME,
                "captions",
                f"there are {count} pictures and {len(texts)} captions",
                "give one for each picture",
            )
        if empty := [i + 1 for i, of_one in enumerate(texts) if not of_one]:
            raise ReVersionError(
                cls.NAME,
                "captions",
                f"picture {empty[0]} has no caption",
                "write one with {} where the relation stands",
            )
        return texts
