"""What is recorded beside every result: code, libraries, machine."""

import datetime
import functools
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kdbench import __version__


@functools.cache
def provenance() -> dict[str, Any]:
    """`commit` (empty for an installed package), `dirty`, `versions`, `hardware`."""
    here = Path(__file__).resolve().parent
    commit, dirty = _git(here)
    return {
        "commit": commit,
        "dirty": dirty,
        "versions": versions(),
        "hardware": hardware(),
    }


def versions() -> dict[str, str]:
    """The versions of what computes, by name."""
    found = {name: version(name) for name in ("torch", "torchvision", "numpy")}
    return {"kdbench": __version__, "python": platform.python_version(), **found}


def stamp(device: str) -> dict[str, Any]:
    """What is recorded beside a result that is written now and is not in the run's id:
    `provenance()`, the device, and `finished`, the time in UTC (ISO 8601)."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {**provenance(), "hardware": hardware(device), "device": device, "finished": now}


def _git(folder: Path) -> tuple[str, bool]:
    """The commit that the running code stands at, and whether the code differs from it."""

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # A package installed inside somebody else's checkout is not that checkout's code.
    if ask("ls-files", "--error-unmatch", "__init__.py") is None:
        return "", False
    return ask("rev-parse", "HEAD") or "", bool(ask("status", "--porcelain", "--", "."))


@functools.cache
def hardware(device: str = "cpu") -> str:
    """Processor and core count, in words, and the names of the machine's GPUs where `device` is
    one of them."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(x.split(":", 1)[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        pass
    gpus = "".join(f", {gpu}" for gpu in _gpus()) if device.startswith("cuda") else ""
    return f"{name}, {os.cpu_count()} cores{gpus}"


def _gpus() -> list[str]:
    """The names of this machine's GPUs, each once; none where the driver does not tell."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return sorted({str(pynvml.nvmlDeviceGetName(handle)) for handle in handles})
    except pynvml.NVMLError:
        return []
