"""Writing files atomically. No torch here.

A file is written as a part file beside its place and renamed, so a reader sees the old one or
the new one. The part file is locked meanwhile: the system releases the lock when the process
ends, however it ends, so a part without a lock was left behind. (A process id says less: it is
used again, and another container has the same ones.)
"""

import errno
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from kdbench.errors import KdbenchError
from kdbench.records.bounded import MOST_TEXT, read_bounded

#: Part files: of this version, and of kdbench 0.1.
PART = re.compile(
    r"\..+\.\d+\.[0-9a-f]{8}\.part|\..+\.\d+\.part|[0-9a-f]{12}\.part|\.test\.part\.npz"
)
#: Where a root folder can hold them.
FOLDERS = ("runs", "reports", "reproduced")


class DiskFull(KdbenchError, OSError):
    """There is no room for a file; the file that it would have replaced is unchanged."""

    def __str__(self) -> str:
        return str(self.strerror)


@contextmanager
def atomic_open(path: Path, size: int) -> Iterator[BinaryIO]:
    """A file to write, which replaces `path` when it has been written whole.

    `size` is its size in bytes, for the message. Raises `DiskFull`, and `OSError` with
    `path` in it where the folder cannot be written to.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    lock = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            lock = _lock(part)
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(error.errno, _no_room(path, size)) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise
    finally:
        with suppress(OSError):  # no part there, or a folder that is read-only
            part.unlink()
        if lock is not None:
            os.close(lock)


def atomic_write(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically. Raises what `atomic_open` raises."""
    with atomic_open(path, len(content)) as file:
        file.write(content)


def link_or_copy(source: Path, target: Path) -> None:
    """The file under another name: a link, which costs nothing, or a copy on another disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. Raises what `atomic_open` raises."""
    atomic_write(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def read_json(path: Path) -> Any:
    """The JSON of a file that is at most two folders deep in `runs/`, or None where there is no
    file. Raises `ValueError`, and `Refused` where it is a link that leads out or too large."""
    try:
        return json.loads(read_bounded(path, path.parent.parent, MOST_TEXT))
    except FileNotFoundError:
        return None


def set_aside(path: Path) -> Path:
    """Rename a file, folder or link to a name that says it is damaged; its new path."""
    target, number = path.with_name(f"{path.name}.damaged"), 1
    while os.path.lexists(target):
        number += 1
        target = path.with_name(f"{path.name}.damaged-{number}")
    path.rename(target)
    sync_folder(path.parent)
    return target


def sync_folder(folder: Path) -> None:
    """Write the folder's names to the disk: without it a power cut can undo a rename."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems have no such call.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def stale_part_files(root: Path) -> list[Path]:
    """Part files that a process left behind when it was killed. They may be removed."""
    stale = []
    for name in FOLDERS:
        for folder, _, files in os.walk(root / name):
            parts = [Path(folder, file) for file in files if PART.fullmatch(file)]
            stale += [part for part in parts if _is_unlocked(part)]
    return sorted(stale)


def _lock(part: Path) -> int | None:
    """A handle that locks the file until it is closed; None where it is locked already."""
    handle = os.open(part, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would be waited for
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _is_unlocked(part: Path) -> bool:
    """Whether nobody writes the part file any more; False where that cannot be known."""
    try:
        handle = _lock(part)
    except OSError:  # gone meanwhile, or not readable
        return False
    if handle is None:
        return False
    os.close(handle)
    return True


def _no_room(path: Path, size: int) -> str:
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    free = shutil.disk_usage(folder).free
    limit = ", so a quota or the number of files is at its limit" if free > size else ""
    return (
        f"no room for {path}: {size:,} bytes were to be written, {free:,} are free in "
        f"{folder}{limit}. Nothing that was kept is lost: free some space and start "
        "again, and it goes on from there."
    )
