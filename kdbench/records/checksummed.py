"""Large files that end in the SHA-256 of all before it: the cached outputs of teachers.

The checksum is in the file, so that both appear at once, and whoever looks at a file can verify
it without knowing what it should hold.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kdbench.errors import KdbenchError

#: Bytes of the checksum at the end.
CHECKSUM_SIZE = hashlib.sha256().digest_size
#: Bytes read at once.
CHUNK = 1 << 24


class CorruptFile(KdbenchError):
    """A file's content is not what was written; `path` says which."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is damaged: the checksum at its end differs")
        self.path = path


class ChecksumWriter:
    """Writes to a file, and last the checksum of all that was written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._checksum = file, hashlib.sha256()

    def write(self, content: bytes | memoryview) -> None:
        """Write content."""
        self._checksum.update(content)
        self._file.write(content)

    def finish(self) -> None:
        """Write the checksum."""
        self._file.write(self._checksum.digest())


def read_chunks(path: Path) -> Iterator[bytes]:
    """The content of a file, piece by piece, without its checksum. Raises `CorruptFile` after
    the last piece where the checksum differs."""
    checksum = hashlib.sha256()
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size - CHECKSUM_SIZE
        while left > 0 and (chunk := file.read(min(left, CHUNK))):
            left -= len(chunk)
            checksum.update(chunk)
            yield chunk
        if left or file.read() != checksum.digest():
            raise CorruptFile(path)


def is_intact(path: Path) -> bool:
    """Whether a file is what was written. Reads all of it."""
    try:
        for _ in read_chunks(path):
            pass
    except CorruptFile:
        return False
    return True


def damaged_files(folder: Path) -> list[Path]:
    """The cached outputs in a folder, and parts of them, that are not what was written. Reads all
    of them."""
    paths = [path for path in folder.glob("*") if path.suffix in (".npy", ".shard")]
    return [path for path in sorted(paths) if path.is_file() and not is_intact(path)]
