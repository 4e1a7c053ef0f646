"""What a ComfyUI answers, read into types. An answer of any other shape ends as HostFault: nothing in it is trusted."""

import functools
import json
import re
from dataclasses import dataclass

from reversion_core.errors import MachineError

from .errors import HostFault, JobFailed

FETCHED = re.compile(
    r"(.*)\.(png|jpe?g|webp|gif|avif|tiff?|bmp|exr|mp4|webm|mkv|mov|flac|mp3|wav|ogg|opus|txt|json|latent|safetensors|glb)",
    re.IGNORECASE,
)
LONGEST_NAME = 80
LONGEST_TEXT = 10_000
MOST_TEXTS = 200  # nodes whose texts are kept
MOST_FILES = 4096  # of a job
# Exceptions of a node that tell of the machine and not of the workflow, without their modules.
OF_THE_MACHINE = frozenset(
    ("OSError", "IOError", "PermissionError", "TimeoutError", "ConnectionError", "MemoryError")
    + ("OutOfMemoryError", "AcceleratorError", "OfflineModeIsEnabled", MachineError.__qualname__)
)


@dataclass(frozen=True)
class Entry:
    """A finished prompt in the host's history.

    graph: as the host ran it; outputs: node id -> what it saved and showed; cached: the nodes that were not run, since
    their results were kept from an earlier prompt; failure: the host's message where it did not succeed; of_machine:
    whether that failure tells of the machine and not of the workflow.
    """

    graph: dict
    outputs: dict
    cached: frozenset
    failure: str | None = None
    of_machine: bool = False


@dataclass(frozen=True)
class SavedFile:
    """A file in the host's output folder, and the node that saved it."""

    node: str
    name: str
    subfolder: str


def _as_comfyui_answers(read):
    """Any error in reading an answer is the host's."""

    @functools.wraps(read)
    def reading(*given):
        try:
            return read(*given)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise HostFault(f"it does not answer as ComfyUI does ({error!r})") from error

    return reading


def parsed(body: bytes | str) -> dict:
    """A JSON object."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HostFault("it does not answer as ComfyUI does (no JSON)") from error
    if not isinstance(answer, dict):
        raise HostFault("it does not answer as ComfyUI does (no JSON object)")
    return answer


@_as_comfyui_answers
def history_entry(answer: dict, prompt: str) -> Entry | None:
    """The entry of a prompt in an answer to /history; None where there is none."""
    if prompt not in answer:
        return None
    entry = answer[prompt]
    graph, messages = entry["prompt"][2], dict(reversed(entry["status"]["messages"]))
    cached = frozenset(messages.get("execution_cached", {}).get("nodes", ()))
    outputs = {str(node): dict(values) for node, values in entry["outputs"].items()}
    if not all(isinstance(node["inputs"], dict) for node in graph.values()):
        raise ValueError("prompt")
    if entry["status"]["status_str"] == "success":
        return Entry(graph, outputs, cached)
    if "execution_error" in messages:
        error = messages["execution_error"]
        where = f"node {error.get('node_id')} ({error.get('node_type')})"
        failure = f"{where}: {str(error.get('exception_message', '')).strip()}"
        of_machine = str(error.get("exception_type")).rpartition(".")[2] in OF_THE_MACHINE
        return Entry(graph, outputs, cached, failure, of_machine)
    interrupted = "execution_interrupted" in messages
    failure = "interrupted on the host" if interrupted else "the host gives no reason"
    return Entry(graph, outputs, cached, failure)


@_as_comfyui_answers
def queued(answer: dict) -> tuple[set, set]:
    """The ids of the prompts that run and of those that wait, in an answer to /queue."""
    running, waiting = ({item[1] for item in answer[f"queue_{kind}"]} for kind in ("running", "pending"))
    return running, waiting


@_as_comfyui_answers
def refusal(answer: dict) -> str:
    """The messages in an answer to a prompt that the host does not take; empty where it takes it."""
    errors = [("", answer["error"])] if answer.get("error") else []
    for id_, node in (answer.get("node_errors") or {}).items():
        errors += [(f"node {id_} ({node.get('class_type')}): ", error) for error in node["errors"]]
    said = [f"{where}{error.get('message', '')} {error.get('details', '')}".strip() for where, error in errors]
    return " | ".join(said)


@_as_comfyui_answers
def saved_files(outputs: dict) -> list[SavedFile]:
    """What the nodes of a job saved, in an order that is the same on every host; previews are not kept."""
    files = [
        SavedFile(node, file["filename"], str(file.get("subfolder", "")))
        for node, values in sorted(outputs.items())
        for _, listed in sorted(values.items())
        for file in (listed if isinstance(listed, list) else ())
        if isinstance(file, dict) and file.get("type") == "output" and "filename" in file
    ]
    if len(files) > MOST_FILES:
        raise JobFailed(f"the host names {len(files)} files, more than the {MOST_FILES} that are fetched for a job")
    return files


@_as_comfyui_answers
def shown_texts(outputs: dict) -> dict[str, str]:
    """Node id -> the texts that it showed, cut to a reasonable length."""
    shown = [(node, values["text"]) for node, values in sorted(outputs.items()) if values.get("text")][:MOST_TEXTS]
    return {node: "\n".join(map(str, text))[:LONGEST_TEXT] for node, text in shown}


@_as_comfyui_answers
def lacking(schemas: dict, classes: list, files: list) -> list[str]:
    """What of a workflow's classes and model files ([(node id, class, input, name)]) the host lacks: sentences."""
    missing = [name for name in classes if name not in schemas]
    said = [f"it lacks the nodes {', '.join(missing)}; install their pack there"] if missing else []
    for node, class_, name, value in files:
        inputs = schemas.get(class_, {}).get("input", {})
        spec = {**inputs.get("required", {}), **inputs.get("optional", {})}.get(name)
        options = spec and _choices(spec)
        if options is not None and value not in options:
            said.append(f"node {node} ({class_}), input '{name}': it has no '{value}'")
    return said


def _choices(spec):
    """The options of a combo input in a schema, of either form; None where it is no combo."""
    if isinstance(spec[0], list):
        return spec[0]
    return spec[1].get("options") if spec[0] == "COMBO" and len(spec) > 1 else None


def landing_name(job: str, number: int, name: str) -> str:
    """Where a host's file lands: under the job's id, flat, with a known suffix; the same wherever the job ran."""
    if not isinstance(name, str) or re.search(r"[/\\:\x00-\x1f]|^\.", name):
        raise JobFailed(f"the host names a file {name!r}, which is refused")
    if not (known := FETCHED.fullmatch(name)):
        raise JobFailed(f"the host names a file {name!r}, which is of no kind that is fetched")
    stem = re.sub(r"_\d{5}_?$", "", known[1])  # the host's own counter
    return f"{job}-{number:03}-{re.sub(r'[^A-Za-z0-9_-]+', '_', stem)[:LONGEST_NAME]}.{known[2].lower()}"
