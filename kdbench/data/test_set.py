"""The test part of a data set. Only the module that scores final runs may import this."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kdbench.data.contents import checksum, statistics
from kdbench.data.datasets import find_data_set
from kdbench.data.files import arrays
from kdbench.data.load import as_tensor


@dataclass(frozen=True, eq=False)
class TestData:
    """The test part of a data set: fields as in `TrainingData`.

    `mean` and `std` are the training part's, so `Views` normalises both parts alike;
    `checksum` is over these images and labels.
    """

    # Keeps pytest from taking the class for a test.
    __test__ = False

    name: str
    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    scale: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    checksum: str


def open_test_set(name: str, folder: Path | str | None = None) -> TestData:
    """The test part of `name` from `data_folder(folder)`. Raises as `kdbench.data.load` does."""
    data_set = find_data_set(name, folder)
    images, labels = arrays(name, data_set, "test", folder)
    known = data_set.statistics
    mean, std = known or statistics(arrays(name, data_set, "train", folder)[0], data_set.scale)
    return TestData(
        name,
        as_tensor(images),
        torch.from_numpy(labels),
        data_set.class_names,
        data_set.scale,
        mean,
        std,
        data_set.checksums.get("test") or checksum(images, labels),
    )
