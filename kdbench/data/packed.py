"""Images of a user's own, packed once into files that are found by their contents' address.

A data set `flowers@0123456789ab` lies in the data folder under `packed/`. Pixels are mapped from
their file and read by position, so that images which do not fit into memory are read like those
which do. The test part has files of its own, so that training never opens them.
"""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock

from kdbench.data.contents import checksum, statistics
from kdbench.data.files import Arrays, DataError, DataSet, File, Part, digest_of
from kdbench.data.own_images import PARTS, Example, Source, listed
from kdbench.records.files import atomic_open, write_json

log = logging.getLogger(__name__)

FOLDER = "packed"
#: What is written last: classes, statistics, and the SHA-256 of the other files.
DESCRIPTION = "packed.json"
NAME = re.compile(r"[a-z0-9._-]+@[0-9a-f]{12}")

#: The images that studies of this process name, by the name of their data set.
_SOURCES: dict[str, Source] = {}


def remember(source: Source) -> str:
    """The name of a source's data set; it is packed when it is first loaded."""
    name = source.name()
    _SOURCES[name] = source
    return name


def is_packed(name: str) -> bool:
    """Whether a data set is of a user's own images; such a name is a single folder's."""
    return NAME.fullmatch(name) is not None


def packed_set(name: str, root: Path) -> DataSet:
    """The data set `name` in the data folder `root`, packed if it is not there. Raises
    `DataError` where no study of this process names its images, and for what is wrong with them."""
    place, source = root / FOLDER / name, _SOURCES.get(name)
    pack = partial(_pack_once, name, source) if source else None
    if not (place / DESCRIPTION).is_file():
        if pack is None:
            raise DataError(
                f"data set {name}: {place} is not there. Run the study once more beside its "
                "images, which packs them, or name the data folder of then with --data-dir"
            )
        pack(root)
    described = _description(name, place / DESCRIPTION)
    files = {
        part: tuple(
            File(f"{FOLDER}/{name}/{file}", sha256=described["files"][file])
            for file in _files_of(part)
        )
        for part in PARTS
    }
    return DataSet(
        tuple(described["classes"]),
        partial(_read, name),
        mean=tuple(described["mean"]),
        std=tuple(described["std"]),
        train_files=files["train"],
        test_files=files["test"],
        download=pack,
        checksums=described["checksums"],
    )


def _files_of(part: Part) -> tuple[str, str]:
    return f"{part}-pixels.npy", f"{part}-labels.npy"


def _description(name: str, path: Path) -> dict[str, Any]:
    try:
        described: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        files = [file for part in PARTS for file in _files_of(part)]
        if {"classes", "mean", "std", "checksums"} <= set(described) and all(
            file in described["files"] for file in files
        ):
            return described
    except (OSError, ValueError, TypeError):
        pass
    raise DataError(f"data set {name}: {path} is damaged. Delete it, then run the study again")


def _pack_once(name: str, source: Source, root: Path) -> None:
    """Pack what is not there whole; other processes wait."""
    place = root / FOLDER / name
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(root / FOLDER / f".{name}.lock"):
        files = [DESCRIPTION, *(file for part in PARTS for file in _files_of(part))]
        if all((place / file).is_file() for file in files):
            return
        try:
            _pack(name, source, place)
        except BaseException as error:
            shutil.rmtree(place)
            if isinstance(error, DataError):
                raise DataError(f"data set {name}: {error}") from None
            raise


def _pack(name: str, source: Source, place: Path) -> None:
    labels: dict[Part, list[int]] = {"train": [], "test": []}
    with ExitStack() as opened:
        pixels = {
            part: opened.enter_context(_pixel_file(place / _files_of(part)[0], source.shape(part)))
            for part in PARTS
        }
        for example in _in_one_part(source.examples(), source.published):
            pixels[example.part].write(np.ascontiguousarray(example.image).data)
            labels[example.part].append(example.label)
        if source.name() != name:
            raise DataError("its files changed while they were read; start again")
    for part in PARTS:
        path = place / _files_of(part)[1]
        with atomic_open(path, 8 * len(labels[part])) as file:
            np.save(file, np.array(labels[part], dtype=np.int64))
    write_json(place / DESCRIPTION, {"classes": source.classes(), **_facts(name, place)})


def _facts(name: str, place: Path) -> dict[str, Any]:
    """Statistics, checksums and digests of packed files. Raises `DataError` where training images
    cannot be normalised."""
    parts = {part: _read(name, part, place.parent.parent) for part in PARTS}
    mean, std = statistics(parts["train"][0], DataSet.scale)
    if 0 in std:
        value = mean[std.index(0)] * DataSet.scale
        raise DataError(
            f"every pixel of channel {std.index(0)} of the training images has the value "
            f"{value:g}: such a channel cannot be normalised. Leave it out"
        )
    files = [file for part in PARTS for file in _files_of(part)]
    return {
        "mean": mean,
        "std": std,
        "checksums": {part: checksum(*arrays) for part, arrays in parts.items()},
        "files": {file: digest_of(place / file, "SHA256") for file in files},
    }


@contextmanager
def _pixel_file(path: Path, shape: tuple[int, int, int, int]) -> Iterator[BinaryIO]:
    """An npy file of uint8 to write the images of `shape` to. Raises `DiskFull` before the first
    where there is no room for all."""
    size = int(np.prod(shape, dtype=np.int64))
    with atomic_open(path, size) as file:
        if shutil.disk_usage(path.parent).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        description = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, description)
        yield file


def _in_one_part(examples: Iterator[Example], published: bool) -> Iterator[Example]:
    """The examples. After the last, raises `DataError` that lists images of both parts; of
    published ones only warns."""
    first: dict[bytes, tuple[Part, str]] = {}
    leaks = []
    for example in examples:
        content = hashlib.sha256(np.ascontiguousarray(example.image).data).digest()
        part, place = first.setdefault(content, (example.part, example.place))
        if part != example.part:
            leaks.append(f"{place} and {example.place}")
        yield example
    if leaks and published:
        log.warning(
            listed("images stand in both parts, as published: test scores count them", leaks)
        )
    elif leaks:
        raise DataError(
            listed("images that stand in both parts, a leak; remove one of each two", leaks)
        )


def _read(name: str, part: Part, root: Path) -> Arrays:
    pixels, labels = (root / FOLDER / name / file for file in _files_of(part))
    images = np.load(pixels, mmap_mode="r", allow_pickle=False)
    return images.transpose(0, 3, 1, 2), np.load(labels, allow_pickle=False)
