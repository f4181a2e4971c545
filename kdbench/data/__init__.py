"""Named data sets as tensors: the training part, its fixed split, its views.

Other packages join through the entry-point group `kdbench.data`: the entry's name is the
data set's, its object a `DataSet`. The test part is not here: only the module that scores
final runs imports `kdbench.data.test_set`.
"""

from kdbench.data.augment import VIEWS, Views
from kdbench.data.datasets import DATASETS
from kdbench.data.files import Arrays, DataError, DataSet, File, Part, data_folder
from kdbench.data.load import (
    TrainingData,
    check_test_shape,
    few_labels,
    load,
    split,
    verify_test_files,
)
from kdbench.data.random_views import RandomViews
from kdbench.records.licences import Licence
from kdbench.registry import Paper

__all__ = [
    "DATASETS",
    "VIEWS",
    "Arrays",
    "DataError",
    "DataSet",
    "File",
    "Licence",
    "Paper",
    "Part",
    "RandomViews",
    "TrainingData",
    "Views",
    "check_test_shape",
    "data_folder",
    "few_labels",
    "load",
    "split",
    "verify_test_files",
]
