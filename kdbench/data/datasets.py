"""The registry of data sets."""

from kdbench.data.builtin import BUILTIN
from kdbench.data.files import DataSet
from kdbench.registry import Registry


def _check(found: object) -> str | None:
    return None if isinstance(found, DataSet) else "is no kdbench.data.DataSet"


#: All data sets by name, those of the entry-point group `kdbench.data` included.
DATASETS: Registry[DataSet] = Registry("data set", "kdbench.data", BUILTIN, _check)
