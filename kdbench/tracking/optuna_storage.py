"""Where Optuna's studies are kept: a database, or a journal that is made in memory."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna


def database(url: str) -> "optuna.storages.BaseStorage":
    """The Optuna storage at `url`. A server that is away is an error after 10 seconds."""
    from optuna.storages import RDBStorage

    waits = url.startswith("postgresql") and "connect_timeout" not in url
    options = {"connect_args": {"connect_timeout": 10}} if waits else {}
    return RDBStorage(url, engine_kwargs=options | {"pool_pre_ping": True})


class MemoryJournal:
    """An Optuna journal in memory: Optuna's own files are synced to the disk at every trial."""

    def __init__(self) -> None:
        self._entries: list[dict[str, Any]] = []

    def storage(self) -> "optuna.storages.BaseStorage":
        """The Optuna storage that writes into this journal."""
        from optuna.storages import JournalStorage

        return JournalStorage(self)  # type: ignore[arg-type]

    def content(self) -> bytes:
        """The journal as the content of a file that Optuna's `JournalFileBackend` opens."""
        return "".join(json.dumps(entry) + "\n" for entry in self._entries).encode()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The entries from a number on; Optuna calls it."""
        return iter(self._entries[log_number_from:])

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add entries; Optuna calls it."""
        self._entries += json.loads(json.dumps(logs))


def quieten() -> None:
    """Silence Optuna's own lines in the terminal."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)


@contextmanager
def experimental() -> Iterator[None]:
    """Use what Optuna calls experimental without its warning."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
