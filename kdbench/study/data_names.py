"""The data of a study, as its file names them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationInfo

from kdbench.data.array_file import ArrayFile
from kdbench.data.datasets import DATASETS
from kdbench.data.files import DataError
from kdbench.data.hub import HubImages
from kdbench.data.image_folder import MODES, FolderSettings, ImageFolder
from kdbench.data.own_images import LARGEST, SMALLEST, Source
from kdbench.data.packed import is_packed, remember
from kdbench.registry import did_you_mean
from kdbench.study.fields import SHORT

#: What stands in place of `name` for images of a user's own, by what it says where they are.
OWN_KEYS = {
    "folder": {"folder", "size", "channels", "test"},
    "arrays": {"arrays", "test"},
    "hub": {"hub", "size", "channels", "test", "config", "revision", "image", "label"},
}
ALL_OWN_KEYS = set().union(*OWN_KEYS.values())
FORMS = "{folder: ./FOLDER, size: PIXELS}, {arrays: ./FILE.npz} or {hub: NAME, size: PIXELS}"


def data_name(value: Any, info: ValidationInfo) -> Any:
    """The name of a data set; of a user's own images, which are looked for beside the study
    (`info.context["folder"]`), with the address of their contents. Raises `ValueError`."""
    if isinstance(value, Mapping):
        try:
            return remember(_source(value, Path((info.context or {}).get("folder", "."))))
        except DataError as error:
            raise ValueError(str(error).replace("\n  ", " ")) from None
    if not isinstance(value, str) or not (value in DATASETS or is_packed(value)):
        raise ValueError(
            f"unknown data set {SHORT.repr(value)}{did_you_mean(value, DATASETS)}; images of your "
            f"own: {FORMS}"
        )
    return value


def _source(parts: Mapping[str, Any], beside: Path) -> Source:
    """What a study says in place of a name. Raises `ValueError` and `DataError`."""
    kinds = [kind for kind in OWN_KEYS if kind in parts]
    if len(kinds) != 1 or "name" in parts or not isinstance(parts[kinds[0]], str):
        raise ValueError(f"images of your own have no name, and one of {FORMS}")
    kind, test = kinds[0], _share(parts.get("test"))
    if wrong := sorted(set(parts) - OWN_KEYS[kind]):
        raise ValueError(f"{', '.join(wrong)} cannot stand beside {kind}; leave it out")
    path = beside / parts[kind]
    if kind == "arrays":
        return ArrayFile(path, test)
    settings = FolderSettings(_size(parts), _channels(parts), test)
    if kind == "folder":
        return ImageFolder(path, settings)
    options = {key: parts[key] for key in ("config", "revision", "image", "label") if key in parts}
    for key, value in options.items():
        if not isinstance(value, str):
            raise ValueError(f"{key} should be a text, not {SHORT.repr(value)}")
    return HubImages(str(path) if path.exists() else parts[kind], settings, **options)


def _size(parts: Mapping[str, Any]) -> int:
    size = parts.get("size")
    if type(size) is not int or not SMALLEST <= size <= LARGEST:
        raise ValueError(
            f"size should be a number of pixels from {SMALLEST} to {LARGEST}, not {size!r}"
        )
    return size


def _channels(parts: Mapping[str, Any]) -> str:
    channels = parts.get("channels", "rgb")
    if not isinstance(channels, str) or channels not in MODES:
        raise ValueError(
            f"channels should be one of {', '.join(MODES)}, not {SHORT.repr(channels)}"
        )
    return channels


def _share(test: Any) -> float:
    """`20%` or 0.2 as 0.2; 0 for none."""
    if test is None:
        return 0.0
    try:
        share = (
            float(test[:-1]) / 100 if isinstance(test, str) and test.endswith("%") else float(test)
        )
    except (TypeError, ValueError):
        share = 0.0
    if isinstance(test, bool) or not 0 < share < 1:
        raise ValueError(f"test should be a share of the images, as 20%, not {SHORT.repr(test)}")
    return share
