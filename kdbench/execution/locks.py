"""Which runs this process works on, and which another does: locks of the operating system.

A lock is gone as soon as its process is, and stays while its process is suspended, however
long that takes.
"""

import time
from contextlib import ExitStack
from pathlib import Path

from filelock import FileLock, Timeout

from kdbench.records.store import RecordBusy, Store

#: Seconds until the lock of another process's run is tried again.
RETRY_AFTER = 1.0


class RunLocks:
    """The locks that one driver holds."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.held: dict[str, ExitStack] = {}
        #: Runs that another process has locked, and when (by this process's clock) that was seen.
        self.locked_elsewhere: dict[str, float] = {}

    def lock_run(self, run_id: str) -> bool:
        """Lock the record of a run for writing; False where another process has it locked."""
        lock = ExitStack()
        try:
            lock.enter_context(self.store.record(run_id).writing())
        except RecordBusy:
            self.locked_elsewhere[run_id] = time.monotonic()
            return False
        self.held[run_id] = lock
        return True

    def lock_file(self, name: str, path: Path) -> bool:
        """Lock the file `path` under `name`; False where another process has it locked."""
        file_lock = FileLock(path)
        try:
            file_lock.acquire(timeout=0)
        except Timeout:
            return False
        lock = ExitStack()
        lock.callback(file_lock.release)
        self.held[name] = lock
        return True

    def release(self, name: str) -> None:
        """Release the lock of a run or a file, if it is held."""
        if lock := self.held.pop(name, None):
            lock.close()

    def release_all(self) -> None:
        """Release every lock."""
        for name in list(self.held):
            self.release(name)

    def forget_old(self) -> list[str]:
        """Forget, and return, the runs that were seen locked more than `RETRY_AFTER` ago: their
        locks may be tried again."""
        limit = time.monotonic() - RETRY_AFTER
        old = [run_id for run_id, seen in self.locked_elsewhere.items() if seen < limit]
        for run_id in old:
            del self.locked_elsewhere[run_id]
        return old
