"""The data of a study, as its file names them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationInfo

from kdbench.data.datasets import DATASETS
from kdbench.data.files import DataError
from kdbench.data.image_folder import MODES, FolderSettings, ImageFolder
from kdbench.data.packed import is_packed, remember
from kdbench.registry import did_you_mean
from kdbench.study.fields import SHORT

#: What stands in place of `name` for a folder of images.
FOLDER_KEYS = {"folder", "size", "channels", "test"}
#: Images of more pixels a side than that do not fit into memory by the thousands.
LARGEST = 1024


def data_name(value: Any, info: ValidationInfo) -> Any:
    """The name of a data set; of a folder of images, which is looked for beside the study
    (`info.context["folder"]`), with the address of its contents. Raises `ValueError`."""
    if isinstance(value, Mapping):
        return _of_folder(value, info)
    if not isinstance(value, str) or not (value in DATASETS or is_packed(value)):
        raise ValueError(
            f"unknown data set {SHORT.repr(value)}{did_you_mean(value, DATASETS)}; images of your "
            "own: {folder: ./FOLDER, size: PIXELS, ...}"
        )
    return value


def _of_folder(parts: Mapping[str, Any], info: ValidationInfo) -> str:
    folder, size = parts.get("folder"), parts.get("size")
    if not isinstance(folder, str) or "name" in parts:
        raise ValueError("images of your own have a folder, and no name: {folder: ./FOLDER, ...}")
    if type(size) is not int or not 4 <= size <= LARGEST:
        raise ValueError(f"size should be a number of pixels from 4 to {LARGEST}, not {size!r}")
    channels = parts.get("channels", "rgb")
    if channels not in MODES:
        raise ValueError(
            f"channels should be one of {', '.join(MODES)}, not {SHORT.repr(channels)}"
        )
    settings = FolderSettings(size, channels, _share(parts.get("test")))
    try:
        path = Path((info.context or {}).get("folder", ".")) / folder
        return remember(ImageFolder(path, settings))
    except DataError as error:
        raise ValueError(str(error).replace("\n  ", " ")) from None


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
