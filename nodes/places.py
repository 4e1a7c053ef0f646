"""Where the host keeps things. Names that come from a graph never lead out of these folders."""

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

import folder_paths

from ..reversion_core.errors import ReVersionError
from ..reversion_core.exemplars import PICTURE_SUFFIXES, left_by_system
from ..reversion_core.store.relation import READ_SUFFIXES, SUFFIXES

LONGEST_NAME = 255  # bytes of a file or folder name, as file systems take
LONGEST_PATH = 1000  # bytes
CLIP_PROCESSORS = {"preprocessor_config.json", "processor_config.json"}  # of older and newer versions of transformers
NONE = "none"  # where there is nothing to choose: without any option the page would send nothing
DEPTH = 3  # of folders of pictures in the input folder


def confined(root: str | Path, name: str, node: str, input_name: str) -> Path:
    """root / name. Raises a ReVersionError for a name that leads out of the root.

    Links that the host's user made in the root are followed, as the host does: only names are confined.
    """
    if not isinstance(name, str):
        raise ReVersionError(node, input_name, f"{name!r:.60} is not a text", "write the name in quotes")
    parts = _parts(root, name)
    if not _is_inside(parts):
        problem = f"{name[:60]!r} is not inside ComfyUI's {Path(root).name} folder"
        raise ReVersionError(node, input_name, problem, "choose a name without '..'")
    if not _is_usable(parts):
        problem = f"{name[:60]!r} cannot be a name in ComfyUI's {Path(root).name} folder"
        raise ReVersionError(node, input_name, problem, "rename it, with fewer characters and without a colon")
    return Path(root, *parts)


def _parts(root: str | Path, name: str) -> list[str]:
    """The folders and the name in a path of either system. Elsewhere than on Windows a name may hold a backslash."""
    parts = name.rstrip("/").split("/")
    if os.name != "nt" and "\\" in name and _is_usable(parts) and os.path.lexists(Path(root, *parts)):
        return parts
    return name.replace("\\", "/").rstrip("/").split("/")


def _is_inside(parts: Sequence[str]) -> bool:
    """Whether a path of these parts stays in its root: no drive, nothing empty, no '..'."""
    return not re.fullmatch("[A-Za-z]:", parts[0]) and all(part.strip(" .") for part in parts)


def _is_usable(parts: Sequence[str]) -> bool:
    """Whether a path of these parts can be offered and opened: inside its root, of legal names, not too long."""
    try:
        sizes = [len(os.fsencode(part)) for part in parts]
        "".join(parts).encode()
    except UnicodeEncodeError:  # bytes of no character: a list cannot show them
        return False
    legal = not any("\0" in part or (os.name == "nt" and ":" in part) for part in parts)
    return _is_inside(parts) and legal and max(sizes) <= LONGEST_NAME and sum(sizes) <= LONGEST_PATH


def _files(root: str | Path, depth: int | None = None) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """(folder's path parts, names of its files) for the root and all folders in it, down to `depth`.

    Links are followed, though no folder is gone through twice. What cannot be read, or was left by a system, is passed
    over: nothing on a disk may keep the pack from loading.
    """
    seen, waiting = set(), [()]
    while waiting:
        parts = waiting.pop(0)
        folder = Path(root, *parts)
        try:
            entries = [e for e in os.scandir(folder) if not left_by_system(e.name) and _is_usable((*parts, e.name))]
            identity = os.path.realpath(folder)
        except OSError:
            continue
        yield parts, [entry.name for entry in entries if _is(entry, "is_file")]
        if identity not in seen and (depth is None or len(parts) < depth):
            waiting += sorted((*parts, entry.name) for entry in entries if _is(entry, "is_dir"))
        seen.add(identity)


def _is(entry: os.DirEntry, what: str) -> bool:
    try:
        return getattr(entry, what)()
    except OSError:  # a link that leads to itself, a folder that may not be entered
        return False


def _of_suffix(names: Iterable[str], suffixes: Collection[str]) -> list[str]:
    return [name for name in names if Path(name).suffix.lower() in suffixes]


def validation(find: Callable[..., object], name: str | None, *arguments: str) -> bool | str:
    """The host's answer to a name before anything runs: True, or why `find` refuses it.

    A name that comes from another node is None until then, and is looked at when it is there.
    """
    try:
        if name is not None:
            find(name, *arguments)
    except ReVersionError as error:
        return str(error)
    return True


def picture_folders() -> list[str]:
    """Folders under the host's input/ that hold pictures, as forward-slash paths; three levels deep."""
    found = _files(folder_paths.get_input_directory(), DEPTH)
    return sorted("/".join(parts) for parts, names in found if parts and _of_suffix(names, PICTURE_SUFFIXES))


def exemplar_folder(name: str, node: str) -> Path:
    """The folder of this name in the host's input folder. Raises a ReVersionError where there is none."""
    path = confined(folder_paths.get_input_directory(), name, node, "folder")
    if not os.path.isdir(path):
        raise ReVersionError(
            node, "folder", f"there is no folder {name!r} in ComfyUI's input folder", "make it and put pictures there"
        )
    return path


def files_in(folder: Path) -> list[Path]:
    """Everything that lies in a folder; nothing where it may not be read."""
    try:
        return [folder / name for name in os.listdir(folder)]
    except OSError:
        return []


def list_files() -> list[str]:
    """JSON files directly in the host's input/."""
    _, names = next(_files(folder_paths.get_input_directory(), 0), ((), []))
    return sorted(_of_suffix(names, (".json",)))


def list_file(name: str, node: str) -> Path:
    """The file of this name in the host's input folder. Raises a ReVersionError where there is none."""
    path = confined(folder_paths.get_input_directory(), name, node, "list_file")
    if not os.path.isfile(path):
        problem = f"there is no file {name[:60]!r} in ComfyUI's input folder"
        raise ReVersionError(node, "list_file", problem, "put it there or choose another")
    return path


def _clip_roots() -> list[Path]:
    return [Path(root) for kind in ("clip_vision", "text_encoders") for root in folder_paths.get_folder_paths(kind)]


def clip_folders() -> list[str]:
    """Names of the folders that hold a CLIP of transformers, in the host's CLIP folders."""
    found = (entry for root in _clip_roots() for entry in _files(root, 1))
    return sorted({parts[0] for parts, names in found if parts and not CLIP_PROCESSORS.isdisjoint(names)})


def clip_folder(name: str, node: str) -> Path:
    """The folder of this name, with a config.json, in the host's CLIP folders. Raises a ReVersionError otherwise."""
    for root in _clip_roots():
        path = confined(root, name or "?", node, "clip_folder")
        if os.path.isfile(path / "config.json"):
            return path
    raise ReVersionError(
        node,
        "clip_folder",
        f"there is no CLIP folder {name!r} in models/clip_vision",
        "download one, such as openai/clip-vit-base-patch32, and put its folder there",
    )


def output_folder() -> Path:
    """Where tables, logs and states of the pack go, in the host's output/; it need not exist yet."""
    return Path(folder_paths.get_output_directory()) / "reversion"


def runs_folder() -> Path:
    """Where trainings are kept: out of the way of the embeddings that artists choose from."""
    return output_folder() / "runs"


def embedding_roots() -> list[Path]:
    """The host's embeddings folders: relations are read from all, and saved to the first."""
    return [Path(root) for root in folder_paths.get_folder_paths("embeddings")]


def relation_names() -> list[str]:
    """Embedding files in all of the host's embeddings folders, as forward-slash paths."""
    found = (entry for root in embedding_roots() for entry in _files(root))
    return sorted({"/".join((*parts, name)) for parts, names in found for name in _of_suffix(names, READ_SUFFIXES)})


def relation_files() -> dict[str, list[Path]]:
    """Name -> the files that `embedding:NAME` may mean: the host looks in all folders, in an order of chance."""
    found = {}
    for root in embedding_roots():
        for parts, names in _files(root):
            for name in _of_suffix(names, SUFFIXES):
                found.setdefault(Path(name).stem, []).append(Path(root, *parts, name))
    return found


def confined_relation(name: str, node: str) -> list[Path]:
    """The name in each embeddings folder. Raises a ReVersionError for one that leads out of them."""
    return [confined(root, name, node, "relation") for root in embedding_roots()]


def relation_file(name: str, node: str) -> Path:
    """The file of a relation in any of the embeddings folders. Raises a ReVersionError where there is none."""
    for path in confined_relation(name, node):
        for file in (path, *(path.with_name(path.name + suffix) for suffix in READ_SUFFIXES)):
            if os.path.isfile(file) and file.suffix.lower() in READ_SUFFIXES:
                return file
    problem = f"there is no file {name!r} in the embeddings folder"
    cure = "put it there, as whoever made this workflow has it, or choose another"
    raise ReVersionError(node, "relation", problem, cure)
