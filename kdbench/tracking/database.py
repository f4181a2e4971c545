"""The SQLite database that MLflow uses where no other store is named: its address, making it
whole or not at all, and moving a damaged one aside. No MLflow is imported here."""

import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, unquote

from kdbench.errors import KdbenchError
from kdbench.records.files import sync_folder

#: What SQLite keeps beside a database while it is written.
COMPANIONS = ("-journal", "-wal", "-shm")

PLAIN, QUOTED = "sqlite:///", "sqlite+pysqlite:///"


class BrokenDatabase(KdbenchError, OSError):
    """The database file cannot be read, and waiting does not mend it."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"the MLflow database {path} cannot be read ({why}): `kdbench doctor` moves it aside "
            "and writes a new one from the records"
        )


def sqlite_uri(path: Path) -> str:
    """The address of a database file, as MLflow takes it."""
    # SQLAlchemy reads % and ? in an address as signs of its own. MLflow makes the folders of
    # a plain address under the quoted name, but not those of one that names the driver.
    text = str(path)
    return QUOTED + quote(text) if set("%?") & set(text) else PLAIN + text


def sqlite_path(uri: str) -> Path | None:
    """The database file of a SQLite address, else None."""
    if uri.startswith(QUOTED):
        return Path(unquote(uri.removeprefix(QUOTED)))
    return Path(uri.removeprefix(PLAIN)) if uri.startswith(PLAIN) else None


def is_missing(path: Path) -> bool:
    """Whether there is no database yet; an empty file is none."""
    return not path.exists() or (path.is_file() and path.stat().st_size == 0)


def create_database(path: Path, fill: Callable[[str], None]) -> None:
    """Create the database beside its place and rename it: a disk that fills up, or a kill, leaves
    none instead of half of one. `fill` gets the address of the new file and makes the tables.
    """
    for leftover in path.parent.glob(f".{path.name}.*.new*"):  # of a process that was killed
        leftover.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        fill(sqlite_uri(new))
        new.replace(path)
        sync_folder(path.parent)
    finally:
        for name in (new.name, *(new.name + end for end in COMPANIONS)):
            path.with_name(name).unlink(missing_ok=True)


def check_readable(path: Path) -> None:
    """Raise `BrokenDatabase` where the file is no SQLite database. Takes about a millisecond:
    MLflow itself tries for two minutes before it says so."""
    try:
        _ask(path, "SELECT count(*) FROM sqlite_master", patience=0.1)
    except sqlite3.Error as error:
        if not _is_busy(error):
            raise BrokenDatabase(path, str(error)) from None


def damage(path: Path) -> str | None:
    """What SQLite's own check of the whole file finds wrong, or None."""
    try:
        answer = _ask(path, "PRAGMA integrity_check(1)", patience=5.0)
    except sqlite3.Error as error:
        return None if _is_busy(error) else str(error)
    return None if answer == "ok" else answer


def move_aside(path: Path) -> Path:
    """Rename a damaged database and what SQLite keeps beside it; the new path of the database."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    target = path.with_name(f"{path.name}.damaged-{stamp}")
    path.rename(target)
    for end in COMPANIONS:
        companion = path.with_name(path.name + end)
        if companion.exists():
            companion.rename(target.with_name(target.name + end))
    return target


def _ask(path: Path, question: str, patience: float) -> str:
    # Never creates a file; but it may write, to undo what a killed process had half written.
    uri = f"file:{quote(str(path))}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=patience)) as database:
        return str(database.execute(question).fetchone()[0])


def _is_busy(error: sqlite3.Error) -> bool:
    """Whether another process holds the database at this moment."""
    return error.sqlite_errorname.startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
