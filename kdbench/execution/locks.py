"""Which runs this process works on, and which another has: locks of the operating system.

They go with their process, so a dead one's are free at once, and a stopped one keeps its
own however long it is stopped.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from kdbench.records.store import RecordBusy, Store

#: Seconds until a run that another process had is asked for again.
ASK_AGAIN = 1.0


class RunLocks:
    """The locks that one driver holds."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.held: dict[str, ExitStack] = {}
        #: Runs that another process has, and since when (our clock) nobody has asked again.
        self.elsewhere: dict[str, float] = {}

    def take(self, run_id: str) -> bool:
        """Whether this process may write the record of a run from now on."""
        lock = ExitStack()
        try:
            lock.enter_context(self.store.record(run_id).writing())
        except RecordBusy:
            self.elsewhere[run_id] = time.monotonic()
            return False
        self.held[run_id] = lock
        return True

    def hold(self, name: str, path: Path) -> bool:
        """Whether this process holds the lock file `path`, as `name`, from now on."""
        lock = ExitStack()
        try:
            lock.enter_context(_holding(path))
        except Timeout:
            return False
        self.held[name] = lock
        return True

    def release(self, name: str) -> None:
        """Let go of a run or of a lock file, if it is held."""
        if lock := self.held.pop(name, None):
            lock.close()

    def release_all(self) -> None:
        """Let go of everything."""
        for name in list(self.held):
            self.release(name)

    def to_ask_again(self) -> list[str]:
        """Runs that another process had a while ago; they are asked for again from now on."""
        before = time.monotonic() - ASK_AGAIN
        again = [run_id for run_id, since in self.elsewhere.items() if since < before]
        for run_id in again:
            del self.elsewhere[run_id]
        return again


@contextmanager
def _holding(path: Path) -> Iterator[None]:
    lock = FileLock(path)
    lock.acquire(timeout=0)
    try:
        yield
    finally:
        lock.release()
