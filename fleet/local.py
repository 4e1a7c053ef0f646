"""A ComfyUI that is started here, with the models, nodes and inputs of an installation and outputs of its own."""

import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

CHILD_PROCESS = Path(__file__).with_name("child_process.py")


@dataclass(frozen=True)
class Installation:
    """comfyui: the folder of main.py; base: its --base-directory; options: more of main.py's; threads: OMP_NUM_THREADS,
    which Ray would set to 1, or None."""

    comfyui: str
    base: str
    options: tuple[str, ...] = ()
    threads: str | None = None


class LocalHost:
    """A ComfyUI process that ends with this one; folder: for its outputs and its log, a temporary one if None."""

    def __init__(self, installation: Installation, folder: str | None):
        self.installation, self.folder = installation, Path(folder or tempfile.mkdtemp(prefix="fleet-"))
        self.process = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process; it is ready when it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        comfyui = Path(self.installation.comfyui)
        arguments = {
            "--port": str(self.port),
            "--base-directory": self.installation.base,
            "--output-directory": str(self.folder / "output"),
            "--temp-directory": str(self.folder),
            "--user-directory": str(self.folder / "user"),
            "--database-url": "sqlite:///:memory:",
        }
        for name in ("output", "user"):
            (self.folder / name).mkdir(exist_ok=True)
        environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
        if self.installation.threads:
            environment["OMP_NUM_THREADS"] = self.installation.threads
        with self._log().open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(CHILD_PROCESS), str(comfyui / "main.py"), "--disable-auto-launch"]
                + [word for pair in arguments.items() for word in pair]
                + list(self.installation.options),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    def stop(self) -> None:
        """End the process, by force if it does not end within ten seconds."""
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def last_words(self) -> str:
        """The last lines of its log."""
        lines = self._log().read_text(errors="replace").strip().splitlines()
        return "\n".join(lines[-5:])

    def _log(self):
        return self.folder / "log.txt"
