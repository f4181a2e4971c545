"""The registry of data sets."""

from pathlib import Path

from kdbench.data.builtin import BUILTIN
from kdbench.data.files import DataSet, data_folder
from kdbench.data.packed import is_packed, packed_set
from kdbench.registry import Registry


def _check(found: object) -> str | None:
    return None if isinstance(found, DataSet) else "is no kdbench.data.DataSet"


#: All data sets by name, those of the entry-point group `kdbench.data` included.
DATASETS: Registry[DataSet] = Registry("data set", "kdbench.data", BUILTIN, _check)


def find_data_set(name: str, folder: Path | str | None = None) -> DataSet:
    """The data set `name`: one of the registry, or a user's own images in the data folder.

    Raises `UnknownName`, and `DataError` where the images are not there.
    """
    return packed_set(name, data_folder(folder)) if is_packed(name) else DATASETS[name]
