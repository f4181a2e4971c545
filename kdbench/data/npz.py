"""The arrays of an npz file, read piece by piece: however large it is, few of its bytes are in
memory, and no Python object in it is made."""

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from kdbench.data.files import DataError, one_line
from kdbench.records.arrays import MOST_MEMBERS, PACKED

#: Bytes that are read at once.
PIECE = 16 << 20
#: Bytes of an array that is read as a whole: labels of sixteen million images.
MOST_WHOLE = 128 << 20
UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError)


@dataclass(frozen=True)
class StoredArray:
    """An array in an npz file, of which the header was read."""

    path: Path
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype
    header: int

    def whole(self) -> np.ndarray:
        """The array. Raises `DataError`, also where it is too large to be read as a whole."""
        if math.prod(self.shape) * self.dtype.itemsize > MOST_WHOLE:
            name = self.member.removesuffix(".npy")
            raise DataError(f"{self.path}: {name} has more than {MOST_WHOLE:,} bytes")
        pieces = [np.empty((0, *self.shape[1:]), self.dtype), *self.pieces()]
        return np.concatenate(pieces)

    def pieces(self) -> Iterator[np.ndarray]:
        """The array in pieces along its first axis. Raises `DataError` where it is damaged."""
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        most = max(1, PIECE // max(1, row))
        with (
            _errors_of(self.path),
            zipfile.ZipFile(self.path) as archive,
            archive.open(self.member) as file,
        ):
            file.read(self.header)
            for start in range(0, self.shape[0], most):
                count = min(most, self.shape[0] - start)
                content = file.read(count * row)
                if len(content) != count * row:
                    raise ValueError(f"{self.member} is shorter than declared")
                yield np.frombuffer(content, self.dtype).reshape(count, *self.shape[1:])
            if file.read(1):  # which compares the checksum too
                raise ValueError(f"{self.member} is longer than declared")


def stored_arrays(path: Path) -> dict[str, StoredArray]:
    """The arrays of an npz file by name. Raises `DataError` where it is none, is damaged, or holds
    Python objects."""
    if not path.is_file():  # a pipe would be waited for
        raise DataError(f"{path} is not a file")
    with _errors_of(path), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > MOST_MEMBERS:
            raise ValueError(f"it holds more than {MOST_MEMBERS} arrays")
        return {m.filename.removesuffix(".npy"): _stored(path, archive, m) for m in members}


def _stored(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> StoredArray:
    name = member.filename.removesuffix(".npy")
    if member.compress_type not in PACKED:
        raise ValueError(f"{name} is compressed in another way than NumPy does")
    with archive.open(member) as file:
        shape, fortran, dtype = _header(file, name)
        header = file.tell()
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which are not read; save plain numbers")
    if fortran and len(shape) > 1:
        raise ValueError(f"{name} is in Fortran's order; save numpy.ascontiguousarray({name})")
    expected = header + math.prod(shape) * dtype.itemsize
    if member.file_size != expected:
        raise ValueError(f"{name} has {member.file_size:,} bytes; {expected:,} were declared")
    return StoredArray(path, member.filename, shape, dtype, header)


def _header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f"{name} is of another version than NumPy writes for numbers")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if min(shape, default=0) < 0:
        raise ValueError(f"{name} has the shape {shape}")
    return shape, fortran, dtype


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Raise what reading an npz file raises as `DataError` with its path."""
    try:
        yield
    except UNREADABLE as error:
        raise DataError(
            f"{path} cannot be read as an npz file (numpy.savez): {one_line(error)}"
        ) from error
