"""What an exported network says of image files, beside its teacher."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from scipy.special import softmax

from kdbench.data import DataError, TrainingData
from kdbench.data.image_folder import decode_to
from kdbench.data.own_images import listed
from kdbench.errors import KdbenchError, one_line
from kdbench.export.description import Description, read_description
from kdbench.export.errors import NoExport
from kdbench.export.formats import FORMATS
from kdbench.export.network import NormalisedModel, Runner, run_all, runner_of
from kdbench.records.store import Store
from kdbench.training.teachers import load_student

T = TypeVar("T")

#: Classes that are named of an image.
TOP = 5
#: Pillow's modes by the number of channels.
MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class Guess:
    """A class and its probability."""

    label: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of an image, best first, and those of the teacher; none where the
    teacher is not there."""

    image: Path
    student: tuple[Guess, ...]
    teacher: tuple[Guess, ...]


def predict(folder: Path, images: Sequence[Path], root: Path) -> list[Prediction]:
    """The predictions of the export in `folder`, and of its teacher where `root` holds its record.

    Files become images as those of a folder of images do: turned, scaled and cropped to the size
    that the network was trained with. Raises `NoExport` where the folder holds no export, and
    `DataError` that lists all files that cannot be read.
    """
    description = read_description(folder)
    runner = _student(folder, description)
    pixels = torch.from_numpy(_decoded(images, description.image_shape))
    student = _top(_run(runner, pixels, folder), description.classes)
    teacher = teacher_of(description, Store(root))
    taught: list[tuple[Guess, ...]] = [()] * len(images)
    if teacher is not None:
        taught = _top(run_all(teacher, pixels, scale=255), description.classes)
    return [Prediction(*parts) for parts in zip(images, student, taught, strict=True)]


def _student(folder: Path, description: Description) -> Runner:
    format = FORMATS.get(description.format)
    if format is None:
        raise NoExport(f"{folder} is of the unknown format {description.format[:50]!r}")
    format.require()
    return _or_no_export(folder, lambda: format.load(folder / format.file, description))


def _run(runner: Runner, pixels: torch.Tensor, folder: Path) -> np.ndarray:
    return _or_no_export(folder, lambda: run_all(runner, pixels, scale=255))


def _or_no_export(folder: Path, make: Callable[[], T]) -> T:
    try:
        return make()
    except KdbenchError:
        raise
    except Exception as error:  # a damaged file raises anything
        raise NoExport(f"the network in {folder} cannot be run: {one_line(error)}") from error


def _decoded(files: Sequence[Path], shape: tuple[int, int, int]) -> np.ndarray:
    """The files as uint8 images: N x channels x height x width."""
    channels, *sides = shape
    if channels not in MODES:
        raise NoExport(f"the network takes images of {channels} channels, which no file has")
    images, faults = [], []
    for file in files:
        try:
            images.append(decode_to(file, (sides[0], sides[1]), MODES[channels]))
        except Exception as error:  # a damaged file raises anything
            faults.append(f"{file}: {one_line(error)}")
    if faults:
        raise DataError(listed("images that cannot be read", faults))
    return np.stack(images)


def teacher_of(description: Description, store: Store) -> Runner | None:
    """The teacher of the exported student, or None where its record is not in the store."""
    record = store.record(description.teacher) if description.teacher else None
    result = record.result if record else None
    if record is None or result is None:
        return None
    shape = description.image_shape
    data = TrainingData(
        description.data,
        torch.empty(0, *shape, dtype=torch.uint8),
        torch.zeros(description.training_images, dtype=torch.int64),
        description.classes,
        255,
        description.mean,
        description.std,
        description.data_checksum,
    )
    which = "best" if description.weights == "best" and result["best"] else "last"
    network = load_student(store, record.id, which, data)
    return runner_of(NormalisedModel(network, description.mean, description.std))


def _top(logits: np.ndarray, classes: tuple[str, ...]) -> list[tuple[Guess, ...]]:
    """The most probable classes of each image, best first."""
    probabilities = softmax(logits.astype(np.float64), axis=1)
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
    return [
        tuple(Guess(classes[k], float(row[k])) for k in chosen)
        for row, chosen in zip(probabilities, best, strict=True)
    ]
