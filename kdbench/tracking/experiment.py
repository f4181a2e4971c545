"""MLflow runs by what they stand for, and the locks that keep each of them single.

Several processes may show one study in one experiment. On one root they agree through
file locks: one for the root, held only while a run is looked for and made, and one for
each record, held while that record is brought level. Processes with other roots, on other
machines, share a tracking server and no lock: two of them may make a run for the same id
at the same moment. `sync` and `stale` then see it twice, and everything here takes the
same one of the two: the finished one, else the older.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from kdbench.errors import KdbenchError
from kdbench.records.store import Record

if TYPE_CHECKING:
    from mlflow.entities import Run

#: Seconds to wait for the root's lock. Whoever has it waits for one answer of a server.
PATIENCE = 120.0


class Levelling(KdbenchError, RuntimeError):
    """Another process is bringing this record level just now."""


@contextmanager
def making(root: Path) -> Iterator[None]:
    """Hold the root's lock on what MLflow is made to hold. Raises `TimeoutError`."""
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / ".mlflow.lock", timeout=PATIENCE)
    with lock:
        yield


@contextmanager
def levelling(record: Record, patience: float) -> Iterator[None]:
    """Hold a record's side of MLflow, its mlflow.json included.

    Raises `Levelling` where another process has it for longer than `patience` seconds.
    It is not the lock of the one who trains: that one never waits for MLflow.
    """
    lock = FileLock(record.folder / ".mirror.lock")
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise Levelling(f"another process is bringing run {record.id} level") from None
    try:
        yield
    finally:
        lock.release()


def preference(run: "Run") -> tuple[bool, int, str]:
    """Of several runs for one thing the smallest is taken: finished, then older."""
    return run.info.status != "FINISHED", run.info.start_time or 0, run.info.run_id


def tagged(client: Any, experiment: str, tag: str, value: str) -> list["Run"]:
    """The runs with that tag that are not deleted, the one to take first."""
    quote = '"' if "'" in value else "'"
    found = client.search_runs([experiment], f"tags.`{tag}` = {quote}{value}{quote}")
    return sorted(found, key=preference)


def found_or_made(
    client: Any, root: Path, experiment: str, tag: str, value: str, make: Callable[[], "Run"]
) -> tuple["Run", bool]:
    """The run with that tag, and whether `make` was called for it."""
    with making(root):
        found = tagged(client, experiment, tag, value)
        return (found[0], False) if found else (make(), True)


def all_runs(client: Any, experiment: str) -> Iterator["Run"]:
    """Every run of an experiment that is not deleted, oldest first."""
    token = None
    while True:
        page = client.search_runs(
            [experiment],
            max_results=1000,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return
