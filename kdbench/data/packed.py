"""Images of a user's own as two files of arrays, made once and found by their contents' address.

A data set `flowers@0123456789ab` lies in the data folder under `packed/`. The test part is a
file of its own, so that training never opens it.
"""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kdbench.data.files import Arrays, DataError, DataSet, File, Part, md5_of
from kdbench.data.image_folder import ImageFolder
from kdbench.records.files import atomic_open, write_json

FOLDER = "packed"
NAME = re.compile(r"[a-z0-9._-]+@[0-9a-f]{12}")
PARTS: tuple[Part, ...] = ("train", "test")

#: The folders that studies of this process name, by the name of their data set.
_SOURCES: dict[str, ImageFolder] = {}


def remember(folder: ImageFolder) -> str:
    """The name of a folder's data set; it is packed when it is first loaded."""
    name = folder.name()
    _SOURCES[name] = folder
    return name


def is_packed(name: str) -> bool:
    """Whether a data set is of a user's own images; such a name is a single folder's."""
    return NAME.fullmatch(name) is not None


def packed_set(name: str, root: Path) -> DataSet:
    """The data set `name` in the data folder `root`. Raises `DataError` where it was not packed
    there and no study of this process names its folder."""
    place, source = root / FOLDER / name, _SOURCES.get(name)
    described: dict[str, Any] = {}
    if (place / "classes.json").is_file():
        described = json.loads((place / "classes.json").read_text(encoding="utf-8"))
    elif source is None:
        raise DataError(
            f"data set {name}: {place} is not there. Run the study once more beside its images, "
            "which packs them, or name the data folder of then with --data-dir"
        )
    classes = described.get("classes") or (source and source.classes())
    files = {part: File(f"{FOLDER}/{name}/{part}.npz", described.get(part)) for part in PARTS}
    return DataSet(
        tuple(classes or ()),
        partial(_read, name),
        train_files=(files["train"],),
        test_files=(files["test"],),
        download=_packer(name, source) if source else None,
    )


def _packer(name: str, source: ImageFolder) -> Callable[[Path], None]:
    def pack(root: Path) -> None:
        place = root / FOLDER / name
        described: dict[str, Any] = {"classes": source.classes()}
        for part, (images, labels) in source.read().items():
            path = place / f"{part}.npz"
            with atomic_open(path, images.nbytes) as file:
                np.savez(file, images=images, labels=labels)
            described[part] = md5_of(path)
        write_json(place / "classes.json", described)

    return pack


def _read(name: str, part: Part, root: Path) -> Arrays:
    with np.load(root / FOLDER / name / f"{part}.npz", allow_pickle=False) as arrays:
        return arrays["images"], arrays["labels"]
