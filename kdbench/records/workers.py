"""Which worker has which run, for `kdbench status`: written by each driver beside the plan."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from kdbench.errors import KdbenchError
from kdbench.records.files import read_json, write_json

#: How the names of these files end.
SUFFIX = ".workers"
#: What this process is called in them.
NAME = f"{socket.gethostname()}-{os.getpid()}"


class WorkersFile:
    """What the workers of this process do, in a file that is there while they do anything."""

    def __init__(self, plan_path: Path) -> None:
        self.path = plan_path.with_name(f"{plan_path.stem}.{NAME}{SUFFIX}")
        self._written: Mapping[str, tuple[str, ...]] = {}

    def write(self, doing: Mapping[str, tuple[str, ...]]) -> None:
        """Write the ids of the runs by worker, where they have changed."""
        if doing == self._written:
            return
        self._written = dict(doing)
        if doing:
            write_json(self.path, {worker: list(runs) for worker, runs in doing.items()})
        else:
            self.path.unlink(missing_ok=True)


def workers_by_run(plan_path: Path) -> dict[str, str]:
    """The worker that has each run. Files of a process that was killed are among those that say
    so: a run that no process has locked is with no worker."""
    found: dict[str, str] = {}
    for path in sorted(plan_path.parent.glob(f"{plan_path.stem}.*{SUFFIX}")):
        try:
            content = read_json(path) or {}  # it may have been removed meanwhile
            for worker, runs in content.items():
                found |= dict.fromkeys(map(str, runs), str(worker))
        except (OSError, ValueError, AttributeError, TypeError, KdbenchError):
            continue  # damaged: nothing but a line of `status` rests on it
    return found
