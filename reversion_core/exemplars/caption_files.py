"""The files in which people keep captions: tables for a whole folder, and a text beside each picture."""

import csv
import io
import json
import re
from pathlib import PurePosixPath

from ..store.reading import Unreadable, as_seen, parsed_json
from .captions import Owners, filled_lines

# The files that are taken for tables of captions, by name and in this order.
TABLE_NAMES = ("text", "captions", "caption", "metadata", "meta_cap", "prompts", "labels")
TEXT_SUFFIXES = (".txt", ".caption")
NAME_COLUMNS = ("file_name", "filename", "file", "image", "image_path", "image_file", "path", "name", "img")
TEXT_COLUMNS = ("text", "texts", "caption", "captions", "prompt", "prompts", "description")
SEPARATORS = ",;\t|"


def _entry(name, captions):
    """(file name, list of captions) of a table's entry, or None where it is none."""
    if isinstance(captions, dict):
        captions = _only(captions, TEXT_COLUMNS)
    captions = [captions] if isinstance(captions, str) else captions
    sound = isinstance(name, str) and isinstance(captions, list) and captions
    return (name, captions) if sound and all(isinstance(caption, str) for caption in captions) else None


def _of_object(value):
    """An entry from {"file_name": "0.jpg", "text": "cat {} stone"}, whatever the two are called."""
    name = _only(value, NAME_COLUMNS) if isinstance(value, dict) else None
    return _entry(name, value) if name else None


def _only(value, known):
    """What a dict holds under the one of these names that it has, None for none. Raises Unreadable for several."""
    found = {key: content for key, content in value.items() if as_seen(key) in known}
    if any(content != first for content in found.values() for first in list(found.values())[:1]):
        raise Unreadable(f"it has more than one name for the same: {', '.join(found)}", "keep one of them")
    return next(iter(found.values()), None)


def _json(text, _say):
    value = parsed_json(text)
    if isinstance(value, dict):
        return [_entry(*pair) for pair in value.items()]
    return [_of_object(one) for one in value] if isinstance(value, list) and value else [None]


def _json_lines(text, _say):
    # Not by splitlines: JSON may hold U+2028 and others of its ends of lines.
    lines = [(number, line) for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1) if line.strip()]
    return [_of_object(parsed_json(line, number)) for number, line in lines] or [None]


def _columns(text, say):
    """Rows with a header that names the two columns; any of the usual separators."""
    head = text.lstrip().partition("\n")[0]
    separator = max(SEPARATORS, key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        cure = "put captions with commas or quotes into quotes, quotes in them doubled"
        raise Unreadable(f"it is not a table: {error}, line {reader.line_num}", cure) from error
    filled = [(number, row) for number, row in enumerate(rows, 1) if any(cell.strip() for cell in row)]
    if len(filled) < len(rows):
        say(f"has {len(rows) - len(filled)} empty rows; they are left out")
    (_, header), *filled = filled or [(1, [])]
    header = [as_seen(cell) for cell in header]
    places = [[i for i, cell in enumerate(header) if cell in known] for known in (NAME_COLUMNS, TEXT_COLUMNS)]
    if not all(places):
        raise Unreadable("its first line does not name the columns", "begin it with file_name,text")
    if max(map(len, places)) > 1:
        doubles = ", ".join(header[i] for i in max(places, key=len))
        raise Unreadable(f"it has more than one column for the same: {doubles}", "keep one of them")
    (name,), (text_place,) = places
    entries = []
    for number, row in filled:
        if text_place == len(header) - 1:  # commas of a caption without quotes
            row = [*row[:text_place], f"{separator} ".join(row[text_place:])]
        if len(row) != len(header):
            problem = f"it has {len(row)} columns in line {number} and {len(header)} in its header"
            raise Unreadable(problem, "put captions with commas into quotes")
        entries.append((row[name].strip(), [row[text_place]]))
    return entries or [None]


# Suffix -> a reader of its text: a list of (file name, captions), None for an entry that is none.
READERS = {".json": _json, ".jsonl": _json_lines, ".csv": _columns, ".tsv": _columns}


def table_among(names):
    """The file of a folder that is its table of captions, or None."""
    seen = {as_seen(name): name for name in names}
    wanted = (f"{stem}{suffix}" for stem in TABLE_NAMES for suffix in READERS)
    return next((seen[name] for name in wanted if name in seen), None)


def read_table(name, text, say):
    """[(file name as the table writes it, its captions), ...] of a table's text. Raises Unreadable."""
    entries = READERS[PurePosixPath(name.lower()).suffix](text, lambda what: say(f"{name} {what}"))
    if None in entries:
        raise Unreadable("it is not a table of captions", 'write it as {"0.jpg": ["cat {} stone"]}')
    return entries


def holds_json(text):
    """Whether a text that should be captions, a line each, is a table in JSON or JSON lines."""
    for piece in (text, next(iter(filled_lines(text)), "")):
        if piece.strip()[:1] in ("{", "["):
            try:
                value = json.loads(piece)
            except (ValueError, RecursionError):
                continue
            if value:
                return True
    return False


def read_beside(files, pictures, read):
    """(picture -> captions, name -> lines of the texts that belong to no picture), from texts of the pictures' names.

    read: file name -> its lines. Of two texts for a picture the first suffix counts, and the other is not read; raises
    Unreadable where both have the same suffix.
    """
    owners, found, others = Owners(pictures), {}, {}
    for suffix in TEXT_SUFFIXES:
        before, texts = set(found), {}
        for name in (name for name in files if name.lower().endswith(suffix)):
            of_text = owners.of(name[: -len(suffix)])
            if of_text and before.issuperset(of_text):
                continue
            for picture in of_text:
                if texts.setdefault(picture, name) != name:
                    raise Unreadable(f"{texts[picture]} and {name} are both captions of {picture}", "keep one of them")
            lines = read(name)
            if not of_text:
                others[name] = lines
            elif lines:
                found |= dict.fromkeys(of_text, lines)
    return found, others
