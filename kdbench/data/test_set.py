"""The test part of a data set. Only the module that scores final runs may import this."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kdbench.data.datasets import find_data_set
from kdbench.data.files import arrays
from kdbench.data.load import as_tensor, checksum, statistics


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
    training = images
    if data_set.mean is None or data_set.std is None:
        training, _ = arrays(name, data_set, "train", folder)
    mean, std = statistics(data_set, training)
    return TestData(
        name,
        as_tensor(images),
        torch.from_numpy(labels),
        data_set.class_names,
        data_set.scale,
        mean,
        std,
        checksum(images, labels),
    )
