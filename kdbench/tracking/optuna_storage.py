"""Where Optuna's studies are kept: a database, or a journal file that outlives damage."""

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from kdbench.records.files import atomic_write

if TYPE_CHECKING:
    import optuna


def database(url: str) -> "optuna.storages.BaseStorage":
    """The Optuna storage at `url`; a server that is away is known to be after seconds."""
    from optuna.storages import RDBStorage

    waits = url.startswith("postgresql") and "connect_timeout" not in url
    options = {"connect_args": {"connect_timeout": 10}} if waits else {}
    return RDBStorage(url, engine_kwargs=options | {"pool_pre_ping": True})


def journal(path: Path, lock: FileLock) -> "optuna.storages.BaseStorage":
    """The journal in `path`. Raises `ValueError` and others where it makes no sense."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    # Our lock ends with its process; Optuna's own outlives a kill by 30 s.
    return JournalStorage(JournalFileBackend(str(path), lock))  # type: ignore[arg-type]


def fingerprint(path: Path) -> tuple[int, bytes]:
    """A file's size and its beginning, where a journal names the process that began it."""
    with path.open("rb") as file:
        return os.fstat(file.fileno()).st_size, file.read(100)


def ends_whole(path: Path) -> bool:
    """Whether the file's last line was written to its end."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def repair_journal(path: Path, lock: FileLock) -> Path | None:
    """Put a damaged journal aside and its whole beginning in its place; where it is now.

    None where the file is whole, or missing. Records bring back what is lost, and the
    beginning keeps the studies that nobody levels just now.
    """
    if not path.exists():
        return None
    lines = path.read_bytes().splitlines(keepends=True)
    good = 0
    while good < len(lines) and is_entry(lines[good]):
        good += 1
    kept = b"".join(lines[:good])
    if good == len(lines):
        try:
            journal(path, lock)
        except Exception:
            kept = b""  # whole lines of something else
        else:
            return None
    aside = next(
        place
        for number in range(1, 1_000_000)
        if not (place := path.with_name(f"{path.name}.damaged-{number}")).exists()
    )
    path.rename(aside)
    atomic_write(path, kept)
    return aside


def is_entry(line: bytes) -> bool:
    """Whether a line of the journal is one whole JSON object."""
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False


def quieten() -> None:
    """No lines of Optuna's own in the terminal."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)


@contextmanager
def experimental() -> Iterator[None]:
    """Use what Optuna calls experimental without its warning."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
