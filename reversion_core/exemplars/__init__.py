"""Exemplars: read from a folder or from the host's IMAGE, with captions in which `{}` stands for the relation."""

from .advice import exemplar_notes
from .captions import filled_lines, of_each, template
from .collection import FITS, Exemplars, fit_square
from .folder import left_by_system, read_folder
from .images import pictures_of
from .pictures import LARGEST_SIDE, PICTURE_SUFFIXES, open_picture

__all__ = [
    "LARGEST_SIDE",
    "FITS",
    "PICTURE_SUFFIXES",
    "Exemplars",
    "exemplar_notes",
    "fit_square",
    "left_by_system",
    "filled_lines",
    "of_each",
    "open_picture",
    "pictures_of",
    "read_folder",
    "template",
]
