"""What every data set owes.

Its test part is read as arrays, to check that it can be; no model sees it here.
"""

from functools import partial
from pathlib import Path

import torch

from kdbench.data import DATASETS, VIEWS, Views, load
from kdbench.data.files import arrays, data_folder
from kdbench.testing.report import Checks, require


def check_training_part(name: str, folder: Path) -> None:
    """uint8 images with a label each, every class there, the same when read again."""
    data, again = load(name, folder), load(name, folder)
    require(data.images.dtype == torch.uint8, f"images are {data.images.dtype}, not uint8")
    require(data.images.dim() == 4, f"images have {data.images.dim()} dimensions, not 4")
    require(data.labels.shape == (len(data.images),), "there is not one label for each image")
    require(data.classes >= 2, f"there are {data.classes} classes")
    require(len(set(data.class_names)) == data.classes, "two classes have one name")
    present = set(data.labels.unique().tolist())
    missing = [data.class_names[i] for i in range(data.classes) if i not in present]
    require(not missing, f"no training image is of the class {', '.join(missing)}")
    require(data.checksum == again.checksum, "reading the training part again gives other images")


def check_test_part(name: str, folder: Path) -> None:
    """The test part has images of the same shape and is not the training part."""
    data = load(name, folder)
    images, labels = arrays(name, DATASETS[name], "test", folder)
    shape = tuple(images.shape[1:])
    require(shape == data.shape, f"test images are {shape}, training images {data.shape}")
    require(len(labels) == len(images) > 0, "there is not one label for each test image")
    same = len(images) == len(data.images) and (images == data.images.numpy()).all()
    require(not same, "the test part is the training part")


def check_statistics(name: str, folder: Path) -> None:
    """Normalised training images have mean 0 and deviation 1 in every channel."""
    data = load(name, folder)
    images = data.images.double() / data.scale
    mean, std = images.mean(dim=(0, 2, 3)), images.std(dim=(0, 2, 3))
    stated = torch.tensor([data.mean, data.std], dtype=torch.float64)
    near = torch.allclose(torch.stack([mean, std]), stated, atol=0.02)
    require(near, f"mean and std are {mean.tolist()}, {std.tolist()}; stated {stated.tolist()}")


def check_views(name: str, folder: Path) -> None:
    """Every augmentation gives finite float32 images of the same shape."""
    data = load(name, folder)
    position = torch.arange(min(8, len(data.images)))
    for augment in VIEWS:
        images = Views(data, augment).take(position)
        require(images.dtype == torch.float32, f"{augment} gives {images.dtype}")
        require(tuple(images.shape[1:]) == data.shape, f"{augment} gives {tuple(images.shape)}")
        require(images.isfinite().all(), f"{augment} gives values that are not finite")


DATA = (check_training_part, check_test_part, check_statistics, check_views)


def data_checks(name: str, folder: Path | str | None) -> Checks:
    """The checks of a data set, by name."""
    DATASETS[name]
    root = data_folder(folder)
    return {check.__name__.removeprefix("check_"): partial(check, name, root) for check in DATA}
