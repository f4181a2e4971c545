"""Reading files of a folder that somebody else may have made, and printing what they say.

Only regular files are read, only inside their folder, and only up to a size: a symbolic link
that leads out, a pipe, a sparse file or compressed zeros end in `Refused`, not in another
file's content, a process that hangs or a full memory.
"""

import errno
import os
import re
import stat
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdbench.errors import KdbenchError

#: Bytes of a text file (JSON, metrics): ten thousand epochs or trials take a third of it.
MOST_TEXT = 32 << 20
#: Bytes of a file of weights, or of a checkpoint: two billion parameters in float32.
MOST_WEIGHTS = 8 << 30
#: Control characters, which a terminal may obey, and halves of surrogate pairs, which no file
#: can hold; but no tab and no line break.
CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class Refused(KdbenchError, OSError):
    """A file that is not read; `filename` and `why` say more."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(errno.EPERM, why, str(path))
        self.why = why

    def __str__(self) -> str:
        return f"{self.filename}: {self.why}"


def inside(path: Path, within: Path) -> Path:
    """The path without symbolic links. `within` itself may be one (to another disk); what is in
    it may not lead out. Raises `Refused`."""
    real, folder = os.path.realpath(path), os.path.realpath(within)
    if os.path.commonpath([real, folder]) != folder:
        raise Refused(path, f"it is a symbolic link that leads out of {within}")
    return Path(real)


def read_bounded(path: Path, within: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes inside the folder `within`.

    Raises `Refused`, and `OSError` where the file is missing or cannot be read.
    """
    # Without O_NONBLOCK a pipe would be waited for.
    handle = os.open(inside(path, within), os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(handle)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode):
            raise Refused(path, "it is not a regular file")
        if status.st_size > most:
            raise Refused(path, f"it has {status.st_size:,} bytes, more than the {most:,} allowed")
        with open(handle, "rb", closefd=False) as file:
            return file.read(status.st_size)
    finally:
        os.close(handle)


def gunzip(path: Path, content: bytes, most: int) -> bytes:
    """What was compressed with gzip to `content`, the file at `path`.

    Raises `Refused` where that is more than `most` bytes or not whole.
    """
    decompressor = zlib.decompressobj(wbits=31)
    try:
        whole = decompressor.decompress(content, most + 1)
    except zlib.error as error:
        raise Refused(path, f"it is not whole gzip data ({error})") from error
    if len(whole) > most:
        raise Refused(path, f"it holds more than the {most:,} bytes allowed")
    if not decompressor.eof or decompressor.unused_data:
        raise Refused(path, "it is not whole gzip data")
    return whole


def refuse_control(value: Any) -> None:
    """Raise `ValueError` where a text in a JSON value holds a control character."""
    if isinstance(value, str) and CONTROL.search(value):
        raise ValueError(f"{value[:60]!a} holds a control character")
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for part in value:
            refuse_control(part)


def printable(text: str) -> str:
    """The text with its control characters written out, as `\\x1b`."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
