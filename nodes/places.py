"""Where the host keeps things. Names that come from a graph never lead out of these folders."""

from pathlib import Path

import folder_paths

from ..reversion_core.errors import ReVersionError
from ..reversion_core.exemplars import PICTURE_SUFFIXES
from ..reversion_core.store.relation import SUFFIXES

LONGEST_NAME = 200  # what every file system takes, in letters of any script but the widest


def confined(root, name, node, input_name):
    """root / name, resolved. Raises a ReVersionError for a name that leads out of the root."""
    root, plain = Path(root).resolve(), name.replace("\\", "/")
    legal = name.strip() and not {":", "\0"} & set(name) and max(map(len, plain.split("/"))) < LONGEST_NAME
    path = (root / plain).resolve() if legal else root.parent
    if not path.is_relative_to(root):
        problem = f"{name[:60]!r} is not inside the host's '{root.name}' folder"
        raise ReVersionError(node, input_name, problem, "choose a name without '..'")
    return path


def validation(find, name, *arguments):
    """The host's answer to a name before anything runs: True, or why `find` refuses it.

    A name that comes from another node is None until then, and is looked at when it is there.
    """
    try:
        if name is not None:
            find(name, *arguments)
    except ReVersionError as error:
        return str(error)
    return True


def picture_folders():
    """Folders under the host's input/ that hold pictures, as forward-slash paths; two levels deep."""
    root = Path(folder_paths.get_input_directory())
    found = [d for pattern in ("*", "*/*") for d in root.glob(pattern) if d.is_dir()]
    with_pictures = [d for d in found if any(f.suffix.lower() in PICTURE_SUFFIXES for f in d.iterdir())]
    return sorted(d.relative_to(root).as_posix() for d in with_pictures)


def exemplar_folder(name, node):
    path = confined(folder_paths.get_input_directory(), name, node, "folder")
    if not path.is_dir():
        raise ReVersionError(
            node, "folder", f"there is no folder {name!r} in the host's input folder", "make it and put pictures there"
        )
    return path


def list_files():
    """JSON files directly in the host's input/."""
    root = Path(folder_paths.get_input_directory())
    return sorted(path.name for path in root.glob("*.json") if path.is_file())


def list_file(name, node):
    path = confined(folder_paths.get_input_directory(), name, node, "list_file")
    if not path.is_file():
        problem = f"there is no file {name[:60]!r} in ComfyUI's input folder"
        raise ReVersionError(node, "list_file", problem, "put it there or choose another")
    return path


def _clip_roots():
    return [Path(root) for kind in ("clip_vision", "text_encoders") for root in folder_paths.get_folder_paths(kind)]


def clip_folders():
    """Names of the folders that hold a CLIP of transformers, in the host's CLIP folders."""
    return sorted({path.parent.name for root in _clip_roots() for path in root.glob("*/preprocessor_config.json")})


def clip_folder(name, node):
    for root in _clip_roots():
        path = confined(root, name or "?", node, "clip_folder")
        if (path / "config.json").is_file():
            return path
    raise ReVersionError(
        node,
        "clip_folder",
        f"there is no CLIP folder {name!r} in models/clip_vision",
        "download one, such as openai/clip-vit-base-patch32, and put its folder there",
    )


def output_folder():
    """Where tables, logs and states of the pack go, in the host's output/; it need not exist yet."""
    return Path(folder_paths.get_output_directory()) / "reversion"


def runs_folder():
    """Where trainings are kept: out of the way of the embeddings that artists choose from."""
    return output_folder() / "runs"


def embedding_roots():
    return [Path(root) for root in folder_paths.get_folder_paths("embeddings")]


def relation_names():
    """Embedding files in all of the host's embeddings folders, as forward-slash paths."""
    names = set()
    for root in embedding_roots():
        files = (f for f in root.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
        names.update(f.relative_to(root).as_posix() for f in files)
    return sorted(names)


def confined_relation(name, node):
    """Raises a ReVersionError for a name that leads out of the embeddings folders."""
    return [confined(root, name, node, "relation") for root in embedding_roots()]


def relation_file(name, node):
    """The file of a relation in any of the embeddings folders. Raises a ReVersionError where there is none."""
    for path in confined_relation(name, node):
        for file in (path, *(path.with_name(path.name + suffix) for suffix in SUFFIXES)):
            if file.is_file() and file.suffix.lower() in SUFFIXES:
                return file
    raise ReVersionError(
        node, "relation", f"there is no file {name!r} in the embeddings folder", "save a relation or choose another"
    )
