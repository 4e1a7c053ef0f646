"""Files that come from anywhere: only ordinary ones are opened, sizes are looked at first, text is read as Unicode."""

import json
import os
import re
import stat
import unicodedata

LARGEST_TEXT = 2**20  # bytes
_BYTE_ORDER_MARKS = (  # longest first: UTF-16's is the beginning of UTF-32's
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)

# What a file may be instead of what its name says: how it begins, what it is, what to do.
DOWNLOAD_AGAIN = "download the file itself again"
ANOTHER_FILE = "choose another file"
_CONTENTS = (
    (rb"version https://git-lfs", "a pointer of Git LFS", DOWNLOAD_AGAIN),
    (rb"\s*<(!doctype html|html|head|script)", "a web page", DOWNLOAD_AGAIN),
    (rb"\s*<(\?xml|svg)", "XML or SVG text", "save it as PNG"),
    (rb"\s*\{\s*\"(error|message|detail)", "the error message of a web site", DOWNLOAD_AGAIN),
    (rb"\x89PNG", "a PNG picture", ANOTHER_FILE),
    (rb"\xff\xd8\xff", "a JPEG picture", ANOTHER_FILE),
    (rb"GIF8|BM|II\*\0|MM\0\*|RIFF....WEBP", "a picture", ANOTHER_FILE),
    (rb"....ftyp(heic|heix|hevc|heim|heis|mif1|msf1)", "a HEIC picture", "save it as PNG or JPEG"),
    (rb"....ftyp(avif|avis)", "an AVIF picture", "save it as PNG or JPEG"),
    (rb"....ftyp|\x1aE\xdf\xa3", "a video", "save pictures of it as PNG"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL picture", "save it as PNG or JPEG"),
    (rb"%!PS|\xc5\xd0\xd3\xc6|%PDF", "a PostScript or PDF page", "save it as PNG"),
    (rb"GGUF", "a GGUF model", "choose an embedding"),
    (rb"PK\x03\x04|7z\xbc\xaf|Rar!|\x1f\x8b|BZh|\xfd7zXZ", "an archive", "unpack it"),
)


class Unreadable(ValueError):
    """A file that cannot be read: why, as "it is ...", and the cure."""

    def __init__(self, why, cure="save it again or take it out"):
        super().__init__(printable(why))
        self.cure = cure


def open_file(path, largest):
    """An ordinary file of at most `largest` bytes, opened to read bytes; pipes, devices and folders are never opened.

    Raises Unreadable.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "no ordinary file"
            raise Unreadable(f"it is {what}", "rename it or take it out")
        if status.st_size > largest:
            raise Unreadable(f"it is larger than {largest // 2**20} MB", "choose another")
        # A pipe that took its place in between is not waited for.
        return open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))
    except OSError as error:
        raise _unopened(path, error) from error


def _unopened(path, error):
    if isinstance(error, FileNotFoundError) and os.path.islink(path):
        return Unreadable("it is a link to nothing", "fix the link or take it out")
    if isinstance(error, PermissionError):
        return Unreadable("it may not be read", "allow reading it or take it out")
    return Unreadable(error.strerror or "the disk gives no answer")


def read_text(path, largest=LARGEST_TEXT):
    """The text of a file in UTF-8, UTF-16 or UTF-32. Raises Unreadable, also for any other encoding."""
    with open_file(path, largest) as file:
        try:
            return decoded(file.read())
        except OSError as error:
            raise _unopened(path, error) from error


def decoded(data):
    """str of bytes in UTF-8, UTF-16 or UTF-32, with or without a byte order mark; Unreadable for anything else."""
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), None)
    if encoding is None:
        # ASCII letters in UTF-16 have a zero in every second byte.
        encoding = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be" if data[:1] == b"\0" else "utf-8"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise Unreadable(f"it is not UTF-8 text, see line {line}", "save it as UTF-8") from error
    if "\0" in text:
        raise Unreadable("it is not UTF-8 text", "save it as UTF-8")
    return text


def parsed_json(text, first_line=1):
    """The value of a JSON text. Raises Unreadable with the reason, line and column; also for a name that stands twice.

    first_line: the number of the text's first line in its file.
    """

    def without_doubles(pairs):
        seen = set()
        for name, _ in pairs:
            if name in seen:
                raise Unreadable(f"it has {name[:60]!r} twice", "keep one of them, with all its captions in a list")
            seen.add(name)
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=without_doubles)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno + first_line - 1}, column {error.colno}"
        raise Unreadable(f"it is not valid JSON: {error.msg}, {place}", "fix that place") from error
    except RecursionError as error:
        raise Unreadable("it is not valid JSON: it is nested too deep", "rewrite it") from error
    except Unreadable:
        raise
    except ValueError as error:  # a number of thousands of digits
        raise Unreadable("it is not valid JSON: a number in it is too long", "rewrite it") from error


def content(head):
    """(what it is, what to do) of a file that begins with these bytes, or None where that is not known."""
    if not head:
        return "an empty file", DOWNLOAD_AGAIN
    head = head.removeprefix(b"\xef\xbb\xbf")
    return next(((what, cure) for begins, what, cure in _CONTENTS if re.match(begins, head, re.I | re.S)), None)


def text_content(head):
    """The same of a file that begins with these bytes and is text, or None."""
    for left_out in range(4):  # bytes of a character that is cut off
        try:
            text = decoded(head[: len(head) - left_out]).lstrip("\ufeff")
        except (Unreadable, UnicodeError):
            continue
        if text.strip() and all(c.isprintable() or c.isspace() for c in text):
            return f"text that begins with {' '.join(text.split())[:60]!r}", DOWNLOAD_AGAIN
    return None


def printable(text):
    """The text without what no terminal or page can show: bytes of no character, control characters."""
    text = text.encode("utf-8", "replace").decode()
    return "".join("?" if unicodedata.category(c) == "Cc" else c for c in text)


def as_seen(name):
    """A name as people see it: however its accents are stored, in any letter case, without invisible characters."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join("".join(c for c in text if unicodedata.category(c) != "Cf").split())


def in_natural_order(name):
    """Sort key: numbers in names by value, letters in any case."""
    pieces = re.split(r"(\d+)", name.lower())
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], name
