"""The training part of a data set as tensors, and its fixed split."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdbench.data.contents import checksum, statistics
from kdbench.data.datasets import find_data_set
from kdbench.data.files import DataError, arrays, check, data_folder


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The training part of a data set.

    `images` is uint8 (N x channels x height x width), `labels` int64 (N), in file order;
    `mean` and `std` are per channel, of images divided by `scale`. `checksum` is 12 hex
    digits of sha256 over the bytes of images and labels: of this part alone, so that
    nothing that is named after it depends on test data.
    """

    name: str
    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    scale: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    checksum: str

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def shape(self) -> tuple[int, int, int]:
        """An image's channels, height and width, in pixels."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def without_pixels(self) -> "TrainingData":
        """The same without images, for planning, which needs only shapes and labels."""
        return replace(self, images=self.images[:0].clone())


def load(name: str, folder: Path | str | None = None) -> TrainingData:
    """The training part of `name` from `data_folder(folder)`, downloaded if it is not there.

    Reads no test image and no test label. Raises `UnknownName`, and
    `DataError` for files that are missing or damaged.
    """
    data_set = find_data_set(name, folder)
    images, labels = arrays(name, data_set, "train", folder)
    mean, std = data_set.statistics or statistics(images, data_set.scale)
    return TrainingData(
        name,
        as_tensor(images),
        torch.from_numpy(labels),
        data_set.class_names,
        data_set.scale,
        mean,
        std,
        data_set.checksums.get("train") or checksum(images, labels),
    )


def as_tensor(images: np.ndarray) -> Tensor:
    """`images` with its channels innermost in memory: as `Views` keeps them, so that on the
    CPU both share one copy. Images that are mapped from a file in this order stay there."""
    with warnings.catch_warnings():
        # Of a file that is mapped for reading. Nobody writes to images.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(images).contiguous(memory_format=torch.channels_last)


def verify_test_files(name: str, folder: Path | str | None = None) -> None:
    """Raise `DataError` if the test part's files are damaged, without reading the images.

    Called at the start of a study, so that a damaged test file does not show at its end.
    """
    check(name, find_data_set(name, folder), "test", data_folder(folder))


def check_test_shape(data: TrainingData, folder: Path | str | None = None) -> None:
    """Raise `DataError` where the test images have another shape than those of `data`.

    The whole test part is read for it, and only the shape of its images is looked at.
    """
    images, _ = arrays(data.name, find_data_set(data.name, folder), "test", folder)
    if images.shape[1:] != data.shape:
        found, expected = ("x".join(map(str, shape)) for shape in (images.shape[1:], data.shape))
        raise DataError(
            f"data set {data.name}: its test images are {found}, its training images {expected} "
            "(channels x height x width): have both parts read in one shape"
        )


def split(labels: Tensor, validation: int, seed: int) -> tuple[Tensor, Tensor]:
    """Sorted int64 indices of the fit and the validation part of `labels` (N).

    `validation` examples are held out, drawn with `seed` and stratified by class
    (scikit-learn's `train_test_split`). Raises `ValueError` where that leaves either part
    with fewer examples than there are classes.
    """
    indices = np.arange(len(labels))
    if validation == 0:
        return torch.from_numpy(indices), torch.empty(0, dtype=torch.int64)
    classes, counts = np.unique(labels.cpu().numpy(), return_counts=True)
    least, most = len(classes), len(indices) - len(classes)
    if not least <= validation <= most:
        raise ValueError(
            f"cannot hold out {validation} of {len(indices)} images for validation: with "
            f"{len(classes)} classes it takes {least} to {most}, or 0 for none"
        )
    if counts.min() < 2:
        raise ValueError(
            f"cannot split by class: class {classes[counts.argmin()]} has only one image"
        )
    from sklearn.model_selection import train_test_split

    fit, held_out = train_test_split(
        indices, test_size=validation, stratify=labels.cpu().numpy(), random_state=seed
    )
    return torch.from_numpy(np.sort(fit)), torch.from_numpy(np.sort(held_out))


def few_labels(labels: Tensor, fit: Tensor, count: int, seed: int) -> Tensor:
    """The `count` examples of `fit` that keep their labels: sorted int64 indices, drawn with
    `seed` and stratified by class.

    Raises `ValueError` where a class would have none, or fewer examples without labels than
    there are classes would be left.
    """
    own = labels[fit].cpu().numpy()
    classes = len(np.unique(own))
    if not classes <= count <= len(fit) - classes:
        raise ValueError(
            f"cannot keep the labels of {count} of {len(fit)} images: with {classes} classes it "
            f"takes {classes} to {len(fit) - classes}"
        )
    from sklearn.model_selection import train_test_split

    kept, _ = train_test_split(fit.numpy(), train_size=count, stratify=own, random_state=seed)
    without = set(own.tolist()) - set(labels[torch.from_numpy(kept)].tolist())
    if without:
        raise ValueError(
            f"of {count} images with labels none would show class {min(without)}: take more"
        )
    return torch.from_numpy(np.sort(kept))
