"""Writing so that nothing is lost: whole files, checkpoints with a checksum. No torch here.

A file is written beside its place and renamed, so a reader sees the old one or the new
one. While it is written, its part file is locked: the system lets go of the lock when the
process ends, however it ends, so a part that nobody holds was left behind. (A process id
says less: it is used again, and another container has the same ones.)
"""

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

#: Part files: ours, those of kdbench 0.1, and those of its tables and predictions.
PART = re.compile(
    r"\..+\.\d+\.[0-9a-f]{8}\.part|\..+\.\d+\.part|[0-9a-f]{12}\.part|\.test\.part\.npz"
)
#: Where a root folder can hold them.
FOLDERS = ("runs", "reports", "reproduced")


class DiskFull(OSError):
    """There is no room for a file; what stood in its place is as it was."""

    def __str__(self) -> str:
        return str(self.strerror)


@contextmanager
def atomic_open(path: Path, wanted: int) -> Iterator[BinaryIO]:
    """A file that stands at `path` once it has been written, whole or not at all.

    `wanted` is its size in bytes, for the message. Raises `DiskFull`, and `OSError` with
    `path` in it where the folder cannot be written to.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    held = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            held = _hold(part)
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(error.errno, _no_room(path, wanted)) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise
    finally:
        with suppress(OSError):  # no part there, or a folder that is read-only
            part.unlink()
        if held is not None:
            os.close(held)


def atomic_write(path: Path, content: bytes) -> None:
    """Put `content` at `path` atomically. Raises as `atomic_open` does."""
    with atomic_open(path, len(content)) as file:
        file.write(content)


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON, whole or not at all."""
    atomic_write(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def read_json(path: Path) -> Any:
    """The file's JSON, or None where there is no file."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def sync_folder(folder: Path) -> None:
    """Put the folder's names on the disk: without it a power cut can undo a rename."""
    if os.name == "nt":
        return  # folders cannot be opened there
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
    found = []
    for name in FOLDERS:
        for folder, _, files in os.walk(root / name):
            parts = [Path(folder, file) for file in files if PART.fullmatch(file)]
            found += [part for part in parts if _let_go(part)]
    return sorted(found)


def _hold(part: Path) -> int | None:
    """A handle that locks the file until it is closed; None where there are no such locks."""
    try:
        import fcntl
    except ImportError:  # Windows, where a file in use cannot be removed anyhow
        return None
    handle = os.open(part, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _let_go(part: Path) -> bool:
    """Whether nobody writes the part file any more; False where that cannot be known."""
    try:
        handle = _hold(part)
    except OSError:  # gone meanwhile, or not ours to read
        return False
    if handle is None:
        return os.name == "nt"
    os.close(handle)
    return True


def _no_room(path: Path, wanted: int) -> str:
    there = next(folder for folder in path.absolute().parents if folder.exists())
    free = shutil.disk_usage(there).free
    limit = ", so a quota or the number of files is at its limit" if free > wanted else ""
    return (
        f"no room for {path}: {wanted:,} bytes were to be written, {free:,} are free in "
        f"{there}{limit}. Nothing that was kept is lost: free some space and start "
        "again, and it goes on from there."
    )


# -- checkpoints
