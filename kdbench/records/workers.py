"""Which worker has which run, for `kdbench status`: written by each driver beside the plan."""

import glob
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from kdbench.errors import KdbenchError
from kdbench.records.files import read_json, write_json

#: How the names of these files end.
SUFFIX = ".workers"


class WorkersFile:
    """What the workers of this process do, in a file that is there while they do anything. Those
    of processes of this machine that were killed are removed."""

    def __init__(self, plan_path: Path) -> None:
        here = f"{plan_path.stem}.{socket.gethostname()}-"
        self.path = plan_path.with_name(f"{here}{os.getpid()}{SUFFIX}")
        self._written: Mapping[str, tuple[str, ...]] = {}
        for path in plan_path.parent.glob(f"{glob.escape(here)}*{SUFFIX}"):
            if not _is_alive(path.name.removeprefix(here).removesuffix(SUFFIX)):
                path.unlink(missing_ok=True)

    def write(self, doing: Mapping[str, tuple[str, ...]]) -> None:
        """Write the ids of the runs by worker, where they have changed."""
        if doing == self._written:
            return
        self._written = dict(doing)
        if doing:
            write_json(self.path, {worker: list(runs) for worker, runs in doing.items()})
        else:
            self.path.unlink(missing_ok=True)


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True  # another user's
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    return True


def workers_by_run(plan_path: Path) -> dict[str, str]:
    """The worker that has each run. Files of a process that was killed are among those that say
    so: a run that no process has locked is with no worker."""
    found: dict[str, str] = {}
    for path in sorted(plan_path.parent.glob(f"{glob.escape(plan_path.stem)}.*{SUFFIX}")):
        try:
            content = read_json(path) or {}  # it may have been removed meanwhile
            for worker, runs in content.items():
                found |= dict.fromkeys(map(str, runs), str(worker))
        except (OSError, ValueError, AttributeError, TypeError, KdbenchError):
            continue  # damaged: nothing but a line of `status` rests on it
    return found
