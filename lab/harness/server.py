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
from pathlib import Path

import numpy as np
from PIL import Image

from lab.harness import comfyui
from lab.miniature import pack

PACK = "reversion"
CHECKPOINT = "reversion-micro.safetensors"
MODELS = comfyui.ROOT / "build" / "models"


class PromptError(RuntimeError):
    """The host refused a prompt, or a node of it failed; the message is the host's own."""


def shipped():
    """The names in the checkout's top folder that a user gets: what neither .gitignore nor .comfyignore leaves out."""
    files = (comfyui.ROOT / name for name in (".gitignore", ".comfyignore"))
    lines = [line.strip().strip("/") for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    left_out = [line for line in lines if line and not line.startswith("#")]
    names = (path.name for path in comfyui.ROOT.iterdir())
    return sorted(n for n in names if n != ".git" and not any(fnmatch.fnmatch(n, pattern) for pattern in left_out))


def prepare(folder, more_nodes=()):
    """A base directory for the host: the pack as a custom node, the miniature as a checkpoint, in- and output folders.

    more_nodes: folders of other custom nodes to link beside the pack.
    """
    folder = Path(folder).resolve()
    for name in ("custom_nodes", "input", "output", "models/checkpoints", "models/embeddings", "models/loras", "user"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    checkpoint = MODELS / CHECKPOINT
    pack.write_checkpoint(checkpoint)
    pack_folder = folder / "custom_nodes" / PACK
    if pack_folder.is_symlink():  # the whole checkout, as an earlier version linked it inside its own build folder
        pack_folder.unlink()
    pack_folder.mkdir(exist_ok=True)
    for link, target in (
        *((pack_folder / name, comfyui.ROOT / name) for name in shipped()),
        (folder / "models" / "checkpoints" / CHECKPOINT, checkpoint),
        *((folder / "custom_nodes" / more.name, more) for more in more_nodes),
    ):
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(target)
    return folder


def command(folder, port, *options):
    nodes = [path.name for path in (folder / "custom_nodes").iterdir()]
    return [
        sys.executable,
        str(comfyui.path() / "main.py"),
        *("--port", str(port), "--base-directory", str(folder), "--disable-auto-launch"),
        *("--database-url", "sqlite:///:memory:", "--disable-all-custom-nodes", "--whitelist-custom-nodes", *nodes),
        *options,
    ]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A running host; `run` queues an API-format prompt and waits for its outputs."""

    def __init__(self, folder, *options, more_nodes=()):
        self.folder = prepare(folder, more_nodes)
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

    def _wait_until_ready(self, seconds=180):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                self.get("system_stats")
                return
            time.sleep(0.2)
        self.stop()
        raise RuntimeError(f"the host did not start:\n{self.log.read_text(errors='replace')[-3000:]}")

    def stop(self):
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

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=30) as response:
            return json.load(response)

    def post(self, path, data=None):
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

    def queue(self, prompt, client=""):
        """Queue a prompt in API format; returns its id. Raises PromptError where the host refuses it."""
        return self.post("prompt", {"prompt": prompt, "client_id": client})["prompt_id"]

    @contextlib.contextmanager
    def following(self, prompt, node):
        """Queue a prompt; gives its id and an iterator over the (value, maximum) of a node's progress bar."""
        import websocket

        client = uuid.uuid4().hex
        socket = websocket.create_connection(f"ws://127.0.0.1:{self.port}/ws?clientId={client}", timeout=120)
        try:
            yield self.queue(prompt, client), _progress(socket, node)
        finally:
            socket.close()

    def wait(self, prompt_id, seconds=900):
        """The history entry of a finished prompt, whether it succeeded or not."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the host ended:\n{self.log.read_text(errors='replace')[-3000:]}")
            if entry := self.get(f"history/{prompt_id}").get(prompt_id):
                return entry
            time.sleep(0.1)
        raise TimeoutError(f"prompt {prompt_id} took longer than {seconds} s")

    def run(self, prompt, seconds=900):
        """Queue, wait, and return {node id: its ui outputs}. Raises PromptError with the host's message."""
        entry = self.wait(self.queue(prompt), seconds)
        if entry["status"]["status_str"] != "success":
            raise PromptError(failure(entry))
        return entry["outputs"]

    def picture(self, image):
        """The path of an image that an output node names."""
        return self.folder / image["type"] / image["subfolder"] / image["filename"]

    def pixels(self, outputs, node):
        """The first picture of an output node, uint8 [h, w, 3]; outputs: from `run`."""
        with Image.open(self.picture(outputs[node]["images"][0])) as picture:
            return np.asarray(picture.convert("RGB"))


def _progress(socket, node):
    while True:
        message = socket.recv()
        if isinstance(message, str):
            message = json.loads(message)
            if message["type"] == "progress" and message["data"]["node"] == node:
                yield message["data"]["value"], message["data"]["max"]


def failure(entry):
    """The message of the node that failed, "interrupted" for a cancelled prompt."""
    for kind, message in entry["status"]["messages"]:
        if kind == "execution_error":
            return message["exception_message"]
        if kind == "execution_interrupted":
            return "interrupted"
    return "unknown failure"


def _refusal(body):
    """The messages in the host's answer to a prompt that it does not accept."""
    try:
        answer = json.loads(body)
    except json.JSONDecodeError:
        return body
    errors = [answer.get("error", {})] + [
        error for node in (answer.get("node_errors") or {}).values() for error in node["errors"]
    ]
    return " | ".join(f"{e.get('message', '')} {e.get('details', '')}".strip() for e in errors)


def main():
    parser = argparse.ArgumentParser(description="Start the host with the pack and the miniature, for a browser.")
    parser.add_argument("--port", type=int, default=8188)
    parser.add_argument("--folder", type=Path, default=comfyui.ROOT / "build" / "ui")
    arguments = parser.parse_args()
    folder = prepare(arguments.folder)
    import torch

    options = () if torch.cuda.is_available() else ("--cpu",)
    print(f"ComfyUI with ReVersion: http://127.0.0.1:{arguments.port}", flush=True)  # noqa: T201
    subprocess.run(command(folder, arguments.port, *options), check=False)


if __name__ == "__main__":
    main()
