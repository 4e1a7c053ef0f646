"""A real ComfyUI server with the pack and the miniature in it, for the demo, the tests and `make ui`."""

import argparse
import contextlib
import fnmatch
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lab.harness import base_directory, comfyui
from lab.miniature import pack
from lab.miniature.forms import FORMS, Form

PACK = "reversion"
CHECKPOINT = FORMS["sd1"].checkpoint
MODELS = comfyui.ROOT / "build" / "models"


class PromptError(RuntimeError):
    """The host refused a prompt, or a node of it failed; the message is the host's own."""


def miniature(form: Form = FORMS["sd1"]) -> Path:
    """The checkpoint of a form of the miniature, assembled where it is not there yet."""
    path = MODELS / form.checkpoint
    pack.write_checkpoint(path, form)
    return path


def shipped() -> list[str]:
    """The names in the checkout's top folder that a user gets: what neither .gitignore nor .comfyignore leaves out."""
    files = (comfyui.ROOT / name for name in (".gitignore", ".comfyignore"))
    lines = [line.strip().strip("/") for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    patterns = [line for line in lines if line and not line.startswith("#")]
    names = (path.name for path in comfyui.ROOT.iterdir())
    return sorted(n for n in names if n != ".git" and not any(fnmatch.fnmatch(n, pattern) for pattern in patterns))


def prepare(folder: str | Path, more_nodes: Iterable[Path] = (), checkpoints: Iterable[Path] = ()) -> Path:
    """A base directory for the host: the pack as a custom node, the miniature as a checkpoint, in- and output folders.

    folder: outside the checkout, see `base_directory`, else a ValueError; more_nodes, checkpoints: folders of custom
    nodes and files to link beside the pack and the miniature. Returns the folder's absolute path.
    """
    folder = Path(folder).resolve()
    if folder.is_relative_to(comfyui.ROOT):
        raise ValueError(f"{folder} lies in the checkout, which it would link to; choose a folder outside of it")
    for name in ("custom_nodes", "input", "output", "models/checkpoints", "models/embeddings", "models/loras", "user"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    pack_folder = folder / "custom_nodes" / PACK
    pack_folder.mkdir(exist_ok=True)
    for link in filter(Path.is_symlink, pack_folder.iterdir()):
        link.unlink()  # what an earlier version shipped
    _link(pack_folder, *(comfyui.ROOT / name for name in shipped()))
    _link(folder / "custom_nodes", *more_nodes)
    _link(folder / "models" / "checkpoints", miniature(), *checkpoints)
    return folder


def _link(folder: Path, *targets: Path) -> None:
    """Links to the targets in a folder, under their own names."""
    for target in targets:
        link = folder / target.name
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(target)


def command(folder: Path, port: int, *options: str) -> list[str]:
    """The command line that starts the host on a base directory, with the custom nodes in it and no others."""
    nodes = [path.name for path in (folder / "custom_nodes").iterdir()]
    return [
        sys.executable,
        str(comfyui.path() / "main.py"),
        *("--port", str(port), "--base-directory", str(folder), "--disable-auto-launch"),
        *("--database-url", "sqlite:///:memory:", "--disable-all-custom-nodes", "--whitelist-custom-nodes", *nodes),
        *options,
    ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A running host; `run` queues an API-format prompt and waits for its outputs."""

    def __init__(
        self, folder: str | Path, *options: str, more_nodes: Iterable[Path] = (), checkpoints: Iterable[Path] = ()
    ):
        """options: of the host's command line, by default `--cpu`; the others as in `prepare`."""
        self.folder = prepare(folder, more_nodes, checkpoints)
        self.port = free_port()
        self.log = self.folder / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command(self.folder, self.port, *(options or ("--cpu",))),
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
            )
        self._wait_until_ready()

    def _wait_until_ready(self, seconds: float = 180) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                self.get("system_stats")
                return
            time.sleep(0.2)
        self.stop()
        raise RuntimeError(f"the host did not start:\n{self.log.read_text(errors='replace')[-3000:]}")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stop()

    def get(self, path: str) -> Any:
        """The host's JSON answer to a GET."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=30) as response:
            return json.load(response)

    def post(self, path: str, data: dict | None = None) -> Any:
        """The host's JSON answer to a POST of JSON, None where it is empty. Raises PromptError with its refusal."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/{path}",
            json.dumps(data or {}).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                body = response.read()
        except urllib.error.HTTPError as error:
            raise PromptError(_refusal(error.read().decode())) from error
        return json.loads(body) if body else None

    def queue(self, prompt: dict, client: str = "") -> str:
        """Queue a prompt in API format; returns its id. Raises PromptError where the host refuses a part of it."""
        answer = self.post("prompt", {"prompt": prompt, "client_id": client})
        if answer["node_errors"]:
            raise PromptError(_messages(answer))
        return answer["prompt_id"]

    @contextlib.contextmanager
    def following(self, prompt: dict, node: str) -> Iterator[tuple[str, Iterator[tuple[int, int]]]]:
        """Queue a prompt; gives its id and an iterator over the (value, maximum) of a node's progress bar."""
        import websocket

        client = uuid.uuid4().hex
        socket = websocket.create_connection(f"ws://127.0.0.1:{self.port}/ws?clientId={client}", timeout=120)
        try:
            yield self.queue(prompt, client), _progress(socket, node)
        finally:
            socket.close()

    def wait(self, prompt_id: str, seconds: float = 900) -> dict:
        """The history entry of a finished prompt, whether it succeeded or not.

        Raises TimeoutError, and RuntimeError where the host ended.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the host ended:\n{self.log.read_text(errors='replace')[-3000:]}")
            with contextlib.suppress(TimeoutError):  # while a host loads a large checkpoint it answers late
                if entry := self.get(f"history/{prompt_id}").get(prompt_id):
                    return entry
            time.sleep(0.1)
        raise TimeoutError(f"prompt {prompt_id} took longer than {seconds} s")

    def run(self, prompt: dict, seconds: float = 900) -> dict[str, dict]:
        """Queue, wait, and return {node id: its ui outputs}. Raises PromptError with the host's message."""
        entry = self.wait(self.queue(prompt), seconds)
        if entry["status"]["status_str"] != "success":
            raise PromptError(failure(entry))
        return entry["outputs"]

    def picture(self, image: dict[str, str]) -> Path:
        """The path of an image that an output node names."""
        return self.folder / image["type"] / image["subfolder"] / image["filename"]

    def pixels(self, outputs: dict[str, dict], node: str) -> np.ndarray:
        """The first picture of an output node, uint8 [h, w, 3]; outputs: from `run`."""
        with Image.open(self.picture(outputs[node]["images"][0])) as picture:
            return np.asarray(picture.convert("RGB"))


def _progress(socket, node: str) -> Iterator[tuple[int, int]]:
    while True:
        message = socket.recv()
        if isinstance(message, str):
            message = json.loads(message)
            if message["type"] == "progress" and message["data"]["node"] == node:
                yield message["data"]["value"], message["data"]["max"]


def failure(entry: dict) -> str:
    """The message of the node that failed in a history entry, "interrupted" for a cancelled prompt."""
    for kind, message in entry["status"]["messages"]:
        if kind == "execution_error":
            return message["exception_message"]
        if kind == "execution_interrupted":
            return "interrupted"
    return "unknown failure"


def _refusal(body: str) -> str:
    """The messages in the host's answer to a prompt that it does not accept."""
    try:
        return _messages(json.loads(body))
    except json.JSONDecodeError:
        return body


def _messages(answer: dict) -> str:
    """What the host's answer says of the prompt and of each of its nodes."""
    errors = [answer.get("error", {})] + [
        error for node in (answer.get("node_errors") or {}).values() for error in node["errors"]
    ]
    return " | ".join(f"{e.get('message', '')} {e.get('details', '')}".strip() for e in errors)


def main() -> None:
    parser = argparse.ArgumentParser(description="Start the host with the pack and the miniature, for a browser.")
    parser.add_argument("--port", type=int, default=8188)
    parser.add_argument("--folder", type=Path, default=base_directory.of("ui"), help="base directory")
    arguments = parser.parse_args()
    folder = prepare(arguments.folder)
    import torch

    options = () if torch.cuda.is_available() else ("--cpu",)
    print(f"ComfyUI with ReVersion: http://127.0.0.1:{arguments.port}", flush=True)  # noqa: T201
    subprocess.run(command(folder, arguments.port, *options), check=False)


if __name__ == "__main__":
    main()
