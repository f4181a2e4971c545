"""What a data set is, and how its files are provided, checked and read."""

import errno
import hashlib
import os
import pickle
import socket
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import platformdirs

from kdbench.errors import KdbenchError
from kdbench.records.licences import Licence
from kdbench.registry import Paper

Part = Literal["train", "test"]
#: uint8 images (N x channels x height x width) and int64 labels (N).
Arrays = tuple[np.ndarray, np.ndarray]
#: Mean and standard deviation per channel.
Statistics = tuple[tuple[float, ...], tuple[float, ...]]

#: Seconds that a download waits for an answer before it counts as failed.
DOWNLOAD_TIMEOUT = 10.0


#: The channels that images have (RGBA); more of them in fewer columns are channels that come last.
MOST_CHANNELS = 4


class DataError(KdbenchError):
    """A data set that is missing or damaged; the message says what, where and what to do."""


@dataclass(frozen=True)
class File:
    """A file, by its path inside the data folder; `md5` or `sha256` where one is known, else the
    size in bytes where that is known."""

    path: str
    md5: str | None = None
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class DataSet:
    """A named data set; what an entry point of the group `kdbench.data` provides.

    `read(part, folder)` gives the arrays of the part `train` or `test`; it runs after the
    files of that part were checked, and reading one part must not read the other. `scale`
    is the pixel value that counts as 1. `mean` and `std` are per channel, of images scaled
    to [0, 1]; None has them computed from the training part. `download(folder)` fetches all
    the files, or is None. `paper` is where the images were published, or None. `checksums` are
    those of the parts' contents where the digests of the files say that they are still the same.
    `licence` says under which terms a report may show images of it; None: it may show none.
    """

    class_names: tuple[str, ...]
    read: Callable[[Part, Path], Arrays]
    scale: int = 255
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    train_files: tuple[File, ...] = ()
    test_files: tuple[File, ...] = ()
    download: Callable[[Path], Any] | None = field(default=None, repr=False)
    paper: Paper | None = None
    checksums: Mapping[Part, str] = field(default_factory=dict)
    licence: Licence | None = None

    @property
    def statistics(self) -> Statistics | None:
        """Mean and standard deviation, where both are known."""
        return None if self.mean is None or self.std is None else (self.mean, self.std)


def data_folder(folder: Path | str | None = None) -> Path:
    """The folder of the data files: the argument, else `KDBENCH_DATA`, else the user's cache."""
    chosen = folder or os.environ.get("KDBENCH_DATA")
    if chosen:
        return Path(os.path.expanduser(chosen))  # leaves the ~ of a user that there is not
    return Path(platformdirs.user_cache_dir("kdbench")) / "data"


def arrays(name: str, source: DataSet, part: Part, folder: Path | str | None) -> Arrays:
    """One part of `source`, its files checked first. Raises `DataError`.

    All files must be there, but only those of `part` are read.
    """
    root = data_folder(folder)
    _provide(name, source, root)
    check(name, source, part, root)
    try:
        images, labels = _checked(*source.read(part, root), len(source.class_names), part)
    # A damaged file, and a reader of another package, can raise anything.
    except Exception as error:
        files = source.train_files if part == "train" else source.test_files
        where = ", ".join(str(root / file.path) for file in files) or "its source"
        raise DataError(
            f"data set {name}: cannot read {where}: {one_line(error)}. {_replace(source)}"
        ) from error
    return images, labels


def _checked(images: Any, labels: Any, classes: int, part: Part) -> Arrays:
    """Images and labels, contiguous in memory or, the channels last, in a file.

    Raises `ValueError` where they are not images with a class each.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.dtype != np.uint8 or images.ndim != 4 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"the {part} part should be uint8 images of 4 dimensions with a label each; found "
            f"{images.dtype} {images.shape} and labels {labels.shape}"
        )
    channels, width = images.shape[1], images.shape[3]
    if channels > MOST_CHANNELS >= width:
        raise ValueError(
            f"images of the {part} part should be images x channels x height x width; found "
            f"{images.shape}, which has the channels last: images.transpose(0, 3, 1, 2)"
        )
    # A cast would cut 1.7 to 1.
    if len(labels) and labels.dtype.kind not in "iu":
        raise ValueError(f"labels of the {part} part should be whole numbers, not {labels.dtype}")
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= classes:
        span = f"{labels.min()} to {labels.max()}" if len(labels) else "none"
        raise ValueError(f"labels of the {part} part should be 0 to {classes - 1}; found {span}")
    if images.size == 0:
        raise ValueError(f"images of the {part} part have no pixels: {images.shape}")
    if not images.transpose(0, 2, 3, 1).flags.c_contiguous:
        images = np.ascontiguousarray(images)
    return images, np.ascontiguousarray(labels, dtype=np.int64)


def one_line(error: Exception) -> str:
    """An error in one line; with its type, where the message alone may say nothing."""
    message = " ".join(str(error).split()).removesuffix(".")[:500]
    if message and isinstance(error, ValueError | OSError | pickle.UnpicklingError):
        return message
    return f"{type(error).__name__}{': ' if message else ''}{message}"


def check(name: str, source: DataSet, part: Part, root: Path) -> None:
    """Raise `DataError` at the first file of `part` with a wrong digest or size."""
    for file in source.train_files if part == "train" else source.test_files:
        path = root / file.path
        try:
            actual, expected = _differs(file, path)
        except OSError as error:
            raise DataError(
                f"data set {name}: cannot read {path}: {error.strerror}. Check that it is a file "
                "that you may read"
                f"{'.' if source.download is None else ', or delete it and run with a network.'}"
            ) from error
        if actual:
            raise DataError(
                f"data set {name}: {path} is damaged: found {actual}, expected {expected}. "
                f"{_replace(source)}"
            )


def _differs(file: File, path: Path) -> tuple[str, str]:
    """What the file is and what it should be, where they differ; else two empty strings."""
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
    if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for, a device has no end
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    size = status.st_size
    if file.size is not None and size != file.size:
        return f"{size:,} bytes", f"{file.size:,} bytes"
    for kind, expected in (("MD5", file.md5), ("SHA256", file.sha256)):
        if expected is not None and (actual := digest_of(path, kind)) != expected:
            return f"{kind} {actual} ({size:,} bytes)", f"{kind} {expected}"
    return "", ""


def _replace(source: DataSet) -> str:
    if source.download is None:
        return "Replace it with a sound copy."
    return "Delete it, then run again with a network, or replace it with a sound copy."


def digest_of(path: Path, kind: str) -> str:
    """The MD5 or SHA256 of a file, in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(
            file, lambda: hashlib.new(kind.lower(), usedforsecurity=False)
        ).hexdigest()


def _missing(source: DataSet, root: Path) -> list[str]:
    files = (*source.train_files, *source.test_files)
    return [file.path for file in files if not (root / file.path).is_file()]


def _provide(name: str, source: DataSet, root: Path) -> None:
    """Download what is missing. Raises one `DataError` where that fails."""
    if not _missing(source, root):
        return
    reason = "it has no download"
    if source.download is not None:
        from filelock import FileLock

        try:
            root.mkdir(parents=True, exist_ok=True)
            # Workers that start together must not write the same files at once.
            with FileLock(root / f".{name}.lock"), _timeout(DOWNLOAD_TIMEOUT):
                if _missing(source, root):
                    source.download(root)
        except KdbenchError:
            raise
        # torchvision raises errors of many kinds here: URLError, RuntimeError, OSError, EOFError.
        except Exception as error:
            message = " ".join(str(error).split())
            reason = f"the download failed ({type(error).__name__}: {message})"
        else:
            reason = "the download left them out"
    if missing := _missing(source, root):
        raise DataError(
            f"data set {name}: looked in {root} for {', '.join(missing)}; not there, and "
            f"{reason}. Provide the files in one of three ways: name the folder that holds "
            f"them with --data-dir; set KDBENCH_DATA to it; or run once with a network, and "
            f"they are downloaded to {root}."
        )


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """Have network connections give up after `seconds`: torchvision sets no limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
