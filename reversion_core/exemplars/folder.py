"""A folder of exemplars, as people have them."""

import os
from pathlib import Path

from ..errors import ReVersionError
from ..method.words import PLACEHOLDER, SLOT
from ..store.reading import Unreadable, as_seen, in_natural_order, printable, read_text
from . import caption_files
from .captions import Owners, filled_lines, of_each, template
from .collection import Exemplars
from .pictures import OTHER_PICTURES, PICTURE_SUFFIXES, open_picture

LARGEST_IN_ALL = 2 * 2**30  # bytes of decoded pictures
TEXT_OR_JSON = "a .txt of the same name or text.json"
_LEFT_BY_SYSTEMS = frozenset(
    ["thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "#recycle", "$recycle.bin"]
    + ["lost+found", "system volume information", "__pycache__"]
)


def left_by_system(name):
    """Whether a file or folder is one that a system or a program leaves behind: hidden ones, previews, bins."""
    return name.startswith((".", "~$")) or name.lower() in _LEFT_BY_SYSTEMS or name.endswith(":Zone.Identifier")


def read_folder(folder, node="ReVersion Load Exemplars", input_name="folder", lines="", size=0, fit="crop"):
    """The Exemplars of a folder: its pictures by name, numbers by value, and their captions.

    Captions are `lines` (a line a picture, in that order), else a table of the folder (`text.json`, `metadata.jsonl`
    and the like), else a `.txt` beside each picture, else one `.txt` for all. Raises a ReVersionError that names every
    file that lacks its other half, or cannot be read.
    """
    return _FolderReader(Path(folder), node, input_name).read(lines, size, fit)


class _FolderReader:
    """The folder with the node and input to name in messages, and what there is to say of it."""

    def __init__(self, folder, node, input_name):
        self.folder, self.node, self.input_name = folder, node, input_name
        self.captions_input = input_name  # in messages about captions
        self.used, self.notes = set(), []

    def read(self, lines, size, fit):
        files, names = self._listed()
        described = self._described(files, names, lines)
        captions = tuple(
            tuple(template(caption, self.node, self.captions_input, printable(name)) for caption in described[name])
            for name in names
        )
        pictures = tuple(self._pictures(names))
        shown = tuple(map(printable, names))
        return Exemplars(shown, pictures, captions, size, fit, tuple(self.notes), self.folder.name)

    def _say(self, text):
        self.notes.append(printable(text))

    def _refuse(self, problem, cure, cause=None, input_name=None):
        raise ReVersionError(self.node, input_name or self.input_name, printable(problem), cure) from cause

    def _listed(self):
        """(names of the other files, names of the pictures), both in natural order."""
        try:
            names = sorted((n for n in os.listdir(self.folder) if not left_by_system(n)), key=in_natural_order)
        except OSError as error:
            problem = f"the folder '{self.folder}' cannot be read ({error.strerror})"
            self._refuse(problem, "allow reading it or choose another", error)
        suffixes = {name: Path(name).suffix.lower() for name in names}
        if strange := [name for name in names if suffixes[name] in OTHER_PICTURES]:
            self._refuse(f"{_some(strange)} cannot be read as a picture", "save it as PNG or JPEG, or take it out")
        pictures = [name for name in names if suffixes[name] in PICTURE_SUFFIXES]
        if not pictures:
            there = f", only {_some(names)}" if names else ""
            cure = "put 4 to 10 exemplars there (PNG, JPEG, WebP and others)"
            self._refuse(f"the folder '{self.folder}' has no pictures{there}", cure)
        return [name for name in names if suffixes[name] not in PICTURE_SUFFIXES], pictures

    def _pictures(self, names):
        total = 0
        for name in names:
            picture = self._read(name, lambda path: open_picture(path, self._say), "the picture ")
            total += picture.nbytes
            if total > LARGEST_IN_ALL:
                self._refuse(f"its {len(names)} pictures are too large together", "use fewer or smaller ones")
            yield picture

    def _read(self, name, reader, what=""):
        self.used.add(name)
        try:
            return reader(self.folder / name)
        except Unreadable as error:
            self._refuse(f"{what}'{name}' cannot be read ({error})", error.cure, error)

    def _described(self, files, pictures, lines):
        """Picture -> its captions, for every picture."""
        table = caption_files.table_among(files)
        if lines.strip():
            self.captions_input = "captions"
            if caption_files.holds_json(lines):
                cure = "write a caption a line, or save it as text.json"
                self._refuse("the captions box holds JSON", cure, input_name="captions")
            source, found = "the captions box", self._for_all(filled_lines(lines), pictures, "the captions box")
        elif table:
            source, found = table, self._of_table(table, pictures)
        else:
            source, found = "", self._of_texts(files, pictures)
        unread = [name for name in files if name not in self.used]
        if without := [name for name in pictures if name not in found]:
            others = f" (not read: {_some(unread)})" if unread else ""
            self._refuse(f"no caption for {_some(without)}{others}", f"add it to {source or TEXT_OR_JSON}")
        if unread:
            self._say(f"not read: {_some(unread)}" + (f"; the captions are those of {source}" if source else ""))
        return found

    def _for_all(self, lines, pictures, where):
        try:
            return of_each(lines, pictures)
        except ValueError as error:
            cure = "write a line for each picture, in the order of their names"
            self._refuse(f"in {where} {error}", cure, error, self.captions_input)

    def _of_table(self, name, pictures):
        text = self._read(name, read_text)
        entries = self._read(name, lambda _: caption_files.read_table(name, text, self._say))
        owners, found, strange, names = Owners(pictures), {}, [], {}
        for written, captions in entries:
            for picture in owners.of(written):
                found.setdefault(picture, []).extend(captions)
                if as_seen(first := names.setdefault(picture, written)) != as_seen(written):
                    problem = f"{name} has captions of {picture} under two names, {first[:80]} and {written[:80]}"
                    self._refuse(problem, "keep those that are meant")
            if not owners.of(written):
                strange.append(written)
        if strange and len(found) < len(pictures):
            problem = f"{name} speaks of {_some(strange)}; the pictures are {_some(pictures)}"
            self._refuse(problem, "write the same names in both")
        if strange:
            self._refuse(f"{name} has captions without a picture: {_some(strange)}", "add the picture or take them out")
        return found

    def _lines(self, name):
        text = self._read(name, read_text)
        if caption_files.holds_json(text):
            self._refuse(f"'{name}' holds JSON", "call it text.json, or write a caption a line")
        return filled_lines(text)

    def _of_texts(self, files, pictures):
        try:
            found, others = caption_files.read_beside(files, pictures, self._lines)
        except Unreadable as error:
            self._refuse(str(error), error.cure, error)
        captions = {n: lines for n, lines in others.items() if any(SLOT in x or PLACEHOLDER in x for x in lines)}
        if not found and len(captions) == 1:
            ((name, lines),) = captions.items()
            return self._for_all(lines, pictures, name)
        if captions:
            self._refuse(f"captions without a picture: {_some(captions)}", "add the picture or take them out")
        self.used -= others.keys()
        return found


def _some(names, most=6):
    """Names for a message: not more than a few."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name[:80] for name in names[:most]) + more
