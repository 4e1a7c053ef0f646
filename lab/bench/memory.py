"""The memory that training takes, for `make speed`, which calls `peak` and `growth` in fresh processes."""

import contextlib
import threading
from collections.abc import Callable, Iterator

import psutil
import torch

from lab.bench.loops import Published
from lab.bench.training_setup import TrainingSetup


def in_use() -> int:
    """Bytes of memory that this process holds, without those of program files."""
    memory = psutil.Process().memory_info()
    return memory.rss - getattr(memory, "shared", 0)


@contextlib.contextmanager
def watching(read: Callable[[], int], every: float) -> Iterator[list[int]]:
    """A list with one number: the largest that `read` gives, asked every so many seconds in a thread of its own."""
    stop, largest = threading.Event(), [read()]

    def watch() -> None:
        while not stop.wait(every):
            largest[0] = max(largest[0], read())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield largest
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def peak_over_now(device: torch.device, found: list[int]) -> Iterator[None]:
    """Append to `found` the peak of memory over what is in use now, in bytes."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield
        found.append(torch.cuda.max_memory_allocated() - before)
        return
    before = in_use()
    with watching(in_use, 0.002) as largest:
        yield
    found.append(largest[0] - before)


def peak(kind: str, full_size: bool = False, updates: int = 3) -> int:
    """Bytes that weights and a few updates take. kind: of `TrainingSetup.borrowing`, or "published"."""
    setup, found = TrainingSetup(full_size), []
    if kind != "published":
        weights = sum(p.nbytes for network in setup.networks() for p in network.parameters())
        with peak_over_now(setup.device, found), setup.borrowing(kind) as model:
            learner = setup.learner(model)
            for _ in range(updates):
                learner.update()
    else:
        with setup.borrowing() as model:
            learner = setup.learner(model)
        published = Published(setup, learner)
        weights = sum(4 * p.numel() for network in setup.networks() for p in network.parameters())
        weights += published.before.nbytes
        with peak_over_now(setup.device, found):
            for _ in range(updates):
                published.update()
    return weights + found[0]


def growth(updates: int, precision: str) -> tuple[int, int]:
    """Bytes in use after a tenth of the updates and after all of them."""
    setup = TrainingSetup(batch_size=1, accumulation=1)
    with setup.borrowing(precision) as model:
        learner = setup.learner(model)
        for _ in range(updates // 10):
            learner.update()
        early = in_use()
        for _ in range(updates - updates // 10):
            learner.update()
        return early, in_use()
