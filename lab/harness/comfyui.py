"""The ComfyUI that the commands run on: the one in COMFYUI_PATH, else the one that `make setup` unpacked."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def path() -> Path:
    """The folder of the host's `main.py`."""
    return Path(os.environ.get("COMFYUI_PATH") or ROOT / ".host" / "ComfyUI")


def device_name() -> str:
    """What the commands compute on, for reports."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"


def make_importable() -> None:
    """Make `comfy` importable in this process, on the CPU where there is no GPU."""
    if str(path()) not in sys.path:
        sys.path.insert(0, str(path()))
    import torch
    from comfy.cli_args import args

    args.cpu = not torch.cuda.is_available()


def load_pack(name: str = "pack") -> ModuleType:
    """The pack as a module of this name, loaded as the host loads a custom node."""
    make_importable()
    spec = importlib.util.spec_from_file_location(name, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
