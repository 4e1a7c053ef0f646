"""Relations as files, and in prompts."""

import os
import re

from comfy_api.latest import io

from ..reversion_core import families, host
from ..reversion_core.errors import MachineError, ReVersionError, check_choice
from ..reversion_core.exemplars import pictures_of
from ..reversion_core.method.words import PLACEHOLDER
from ..reversion_core.store import foreign, sharing
from ..reversion_core.store import relation as relation_files
from ..reversion_core.store.files import states_of
from ..reversion_core.store.reading import Unreadable
from . import places
from .limits import check_numbers
from .progress import hint_on_running_node, show_text
from .saved_files import SavedFiles
from .schema import named
from .sockets import RelationSocket, clip_of_relation_input

CATEGORY = "ReVersion/use"
LONGEST_VALUE = 2000  # characters
FORMATS = tuple(suffix[1:] for suffix in relation_files.SUFFIXES)


class ReVersionSaveRelation(io.ComfyNode):
    NAME = "ReVersion Save Relation"
    _FILES = SavedFiles()

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ReVersionSaveRelation",
            **named(cls.NAME, "embedding", "save textual inversion"),
            category=CATEGORY,
            description="Saves a relation as an embedding: it works in ReVersion Load Relation, and as embedding:NAME "
            "in any prompt; other programs read it too.",
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                RelationSocket.Input("relation", tooltip="From ReVersion Train."),
                io.String.Input(
                    "name",
                    default="my-relation",
                    tooltip="File name in the embeddings folder: letters, digits, - and _.",
                ),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    tooltip="Replace another relation of this name. Off: the next free name is taken, such as "
                    "my-relation-2.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default=FORMATS[0],
                    optional=True,
                    tooltip="safetensors: for ComfyUI and most others, with all that is known of the training. pt: for "
                    "older WebUIs. bin: for diffusers. The last two hold the numbers alone.",
                ),
                io.Image.Input(
                    "preview",
                    optional=True,
                    tooltip="A picture made with the relation, for sharing it: saved beside the file, and small in it, "
                    "for model browsers.",
                ),
                io.String.Input(
                    "usage",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="How to use the relation, in your words, for whoever gets the file. Empty: 'Write it "
                    "between two entities'.",
                ),
            ],
            outputs=[
                io.String.Output("embedding", display_name="embedding", tooltip="The text embedding:NAME for a prompt.")
            ],
        )

    @classmethod
    def validate_inputs(cls, name):
        # A name that no file can have is refused before a training runs for it.
        return places.validation(relation_files.checked_name, name, cls.NAME, "name")

    @classmethod
    def fingerprint_inputs(cls, name=None, **inputs):
        return cls._FILES.lost(name)

    @classmethod
    def execute(cls, relation, name, overwrite, format=FORMATS[0], preview=None, usage=""):
        given, name = name, relation_files.checked_name(name, cls.NAME, "name")
        check_choice(format, FORMATS, cls.NAME, "format")
        picture, usage = cls._picture(preview), usage.strip()[: sharing.LONGEST_USAGE]
        told = []
        if not relation.is_of_one_clip and format != FORMATS[0]:
            told.append(f"Saved as {FORMATS[0]}: {format} cannot hold a relation of {relation.family}.")
            format = FORMATS[0]
        path = places.embedding_roots()[0] / f"{name}.{format}"
        known = places.relation_files()
        try:
            path, in_place_of_another = cls._save(relation, path, None if overwrite else known, picture, usage)
            pictured = sharing.write_preview(path, picture).name if picture is not None else ""
        except OSError as error:
            problem = f"'{path}' cannot be written ({error.strerror})"
            cure = f"free space on the disk or allow writing; a training keeps it in '{places.runs_folder()}' too"
            raise MachineError(cls.NAME, "name", problem, cure) from error
        cls._FILES.saved(given, path, in_place_of_another)
        text = f"embedding:{path.stem}"
        if path.stem != name:
            told.append(f"Saved as {text}; {name} holds another relation.")
        told = told or [f"Saved as {text}."]
        told += [f"Its picture is {pictured}."] if pictured else []
        if overwrite:
            told += cls._replace(relation_files.hiding(relation, path))
            told += [
                f"ComfyUI may read {other} instead: rename one of them."
                for other in known.get(name, ())
                if other.parent != path.parent and not relation_files.same_numbers(relation, other)
            ]
        family = families.named(relation.family)
        if family is not None and not family.embedding_syntax_works:
            told.append(f"Use it by ReVersion Apply Relation: in {family.name}, embedding:NAME fails in ComfyUI.")
        return io.NodeOutput(text, ui=show_text(cls, " ".join(told)))

    @classmethod
    def _save(cls, relation, wanted, known, picture, usage):
        """Write the file where it is not there yet as it should be; (its path, whether it held another relation).

        known: the files of each name, none of which is to be replaced; None to replace.
        """
        while True:
            path = wanted if known is None else relation_files.free_path(relation, wanted, known)
            there = os.path.lexists(path)
            other = known is None and there and not relation_files.same_numbers(relation, path)
            try:
                if known is None or not there or picture is not None or usage:
                    described = sharing.described(relation, path.stem, picture, usage)
                    relation_files.save(described, path, replace=there or known is None)
            except FileExistsError:  # another program was faster
                continue
            return path, other

    @classmethod
    def _replace(cls, others):
        """Delete relations that ComfyUI would read instead of the one that is to replace them; says so."""
        for other in others:
            try:
                other.unlink()
            except OSError as error:
                problem = f"ComfyUI goes on reading '{other}', which cannot be deleted ({error.strerror})"
                raise MachineError(cls.NAME, "overwrite", problem, "delete it, or save under another name") from error
        return [f"{other.name} is replaced by it." for other in others]

    @classmethod
    def _picture(cls, preview):
        """The first picture of an IMAGE, uint8 [h, w, 3]; None for none."""
        try:
            return next(pictures_of(preview), None) if preview is not None else None
        except Unreadable as error:
            raise ReVersionError(cls.NAME, "preview", f"it cannot be read ({error})", error.cure) from error


class ReVersionLoadRelation(io.ComfyNode):
    NAME = "ReVersion Load Relation"

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ReVersionLoadRelation",
            **named(cls.NAME, "textual inversion", "load embedding"),
            category=CATEGORY,
            description="Loads a relation, or any textual-inversion embedding, from the embeddings folder.",
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Combo.Input(
                    "relation",
                    options=places.relation_names() or [places.NONE],
                    tooltip="A file of the embeddings folder: .safetensors, or a .bin or .pt that holds only numbers.",
                )
            ],
            outputs=[
                RelationSocket.Output("relation_out", display_name="relation", tooltip="For ReVersion Apply Relation."),
                io.String.Output("about", display_name="about", tooltip="What the file says about itself."),
            ],
        )

    @classmethod
    def validate_inputs(cls, relation):
        return places.validation(places.confined_relation, relation, cls.NAME)

    @classmethod
    def fingerprint_inputs(cls, relation):
        if relation is None:  # it comes from another node, and is not known yet
            return float("nan")
        path = places.relation_file(relation, cls.NAME)
        return str(states_of([path, *foreign.possible_halves(path)]))

    @classmethod
    def execute(cls, relation):
        loaded = relation_files.load(places.relation_file(relation, cls.NAME), cls.NAME)
        count = f"{loaded.count} vector{'s' if loaded.count > 1 else ''}"
        lines = [f"{relation}: {loaded.family}, {count}", *loaded.notes]
        known = "\n".join(lines)
        lines += [f"{key}: {_short(value)}" for key, value in sorted(loaded.metadata.items())]
        return io.NodeOutput(loaded, "\n".join(lines), ui=show_text(cls, known))


def _short(value):
    """A value of the metadata: other programs keep megabytes of tags and whole pictures there."""
    return value if len(value) <= LONGEST_VALUE else f"{value[:LONGEST_VALUE]}... ({len(value)} characters)"


def _checked_placeholder(text, node):
    """The word that stands for a relation. Raises a ReVersionError for one that could be a part of any prompt."""
    word = text.strip()
    if not re.fullmatch(r"<[A-Za-z0-9_-]+>", word):
        problem = f"{word[:60]!r} could be an ordinary part of a prompt"
        raise ReVersionError(node, "placeholder", problem, "write a word in angle brackets, such as <R>")
    return word


class ReVersionApplyRelation(io.ComfyNode):
    NAME = "ReVersion Apply Relation"

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ReVersionApplyRelation",
            display_name=cls.NAME,
            category=CATEGORY,
            description="Makes a word such as <R> mean the relation in every prompt that this CLIP encodes. Chain it "
            "for several relations.",
            inputs=[
                clip_of_relation_input(),
                RelationSocket.Input("relation", tooltip="From ReVersion Train or ReVersion Load Relation."),
                io.String.Input(
                    "placeholder",
                    default=PLACEHOLDER,
                    tooltip="The word to write in prompts, in angle brackets: 'cat <R> stone'.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    round=False,
                    tooltip="1: the relation as learned. 0: the plain word it started from.",
                ),
            ],
            outputs=[io.Clip.Output("clip_out", display_name="clip", tooltip="For CLIP Text Encode.")],
        )

    @classmethod
    def validate_inputs(cls, placeholder):
        # A word that cannot stand for a relation is refused before a training runs for it.
        return places.validation(_checked_placeholder, placeholder, cls.NAME)

    @classmethod
    def execute(cls, clip, relation, placeholder, strength):
        check_numbers(cls, strength=strength)
        host.check_clip(clip, cls.NAME)
        placeholder = _checked_placeholder(placeholder, cls.NAME)
        if placeholder in host.placeholders(clip):
            problem = f"{placeholder} stands for another relation of this CLIP already"
            raise ReVersionError(cls.NAME, "placeholder", problem, "choose another word, such as <S>")
        if told := host.check_fits(relation, clip, cls.NAME):
            hint_on_running_node(told)
        vectors = host.at_strength(relation, clip, strength)
        return io.NodeOutput(host.with_hints(host.with_relation(clip, placeholder, vectors), hint_on_running_node))
