"""Images of a user's own as arrays in an npz file.

The keys are Keras's: `x_train`, `y_train`, `x_test`, `y_test`; or `x` and `y`, of which a share is
the test part; and `classes`, their names, where they are more than numbers. Images are uint8,
images x height x width, with the channels last or first where there are some. Labels are whole
numbers from 0 without gaps.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from kdbench.data.files import MOST_CHANNELS, DataError, Part
from kdbench.data.npz import StoredArray, stored_arrays
from kdbench.data.own_images import (
    LARGEST,
    PARTS,
    SMALLEST,
    Example,
    check_classes,
    draw_test,
    listed,
    name_with_address,
)

#: Raise when the images that come out of a file change.
VERSION = 1
#: The keys of images and labels, by whether a share of them is the test part.
PAIRS = {
    False: (("x_train", "y_train"), ("x_test", "y_test")),
    True: (("x", "y"),),
}
CLASSES = "classes"
MOST_CLASSES = 100_000


@dataclass(frozen=True)
class ArrayFile:
    """An npz file, and the share of its images that is the test part (0: it has one)."""

    published: ClassVar[bool] = False
    path: Path
    test: float = 0.0

    def name(self) -> str:
        """The data set's name: the file's, with an address of its content. Raises `DataError` for
        what is wrong but with pixels."""
        _ = self._parts
        with self.path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(json.dumps([VERSION, self.test, content]).encode())
        return name_with_address(self.path.stem, digest.hexdigest())

    def classes(self) -> tuple[str, ...]:
        """The class names, by number."""
        return self._classes

    def shape(self, part: Part) -> tuple[int, int, int, int]:
        """Images x height x width x channels."""
        count = sum(which == part for parts in self._parts for which in parts)
        return count, *self._layout.shape

    def examples(self) -> Iterator[Example]:
        """Every image, in the file's order."""
        for (key, _), parts, labels in zip(self._pairs, self._parts, self._labels, strict=True):
            number = 0
            for piece in self._arrays[key].pieces():
                for image in piece:
                    place = f"{key}[{number}]"
                    pixels = self._layout.channels_last(image)
                    yield Example(parts[number], pixels, labels[number], place)
                    number += 1

    # -- what stands in the file, checked

    @property
    def _pairs(self) -> tuple[tuple[str, str], ...]:
        return PAIRS[bool(self.test)]

    @cached_property
    def _arrays(self) -> dict[str, StoredArray]:
        arrays = stored_arrays(self.path)
        keys = [key for pair in self._pairs for key in pair]
        missing = [key for key in keys if key not in arrays]
        unknown = sorted(set(arrays) - {*keys, CLASSES})
        if missing or unknown:
            others = ", ".join(key for pair in PAIRS[not self.test] for key in pair)
            when = "Without data.test" if self.test else "With data.test, a share of them,"
            raise DataError(
                f"{self.path} should hold {', '.join(keys)} (and {CLASSES}, their names); found "
                f"{', '.join(sorted(arrays)) or 'nothing'}. {when} it should hold {others}"
            )
        return arrays

    @cached_property
    def _layout(self) -> "Layout":
        layouts = {key: _layout_of(self.path, key, self._arrays[key]) for key, _ in self._pairs}
        if len(set(layouts.values())) > 1:
            shapes = " and ".join(f"{key} {self._arrays[key].shape}" for key in layouts)
            raise DataError(f"{self.path}: images of one shape are needed; found {shapes}")
        return next(iter(layouts.values()))

    @cached_property
    def _labels(self) -> list[list[int]]:
        return [self._labels_of(*pair) for pair in self._pairs]

    def _labels_of(self, images: str, key: str) -> list[int]:
        array, count = self._arrays[key], self._arrays[images].shape[0]
        if array.dtype.kind not in "iu":
            raise DataError(
                f"{self.path}: {key} is {array.dtype}; labels are whole numbers from 0, as "
                f"{key}.astype('int64') gives where all of them are"
            )
        if len(array.shape) != 1:
            what = "argmax(1), if it is one-hot, or ravel()"
            raise DataError(f"{self.path}: {key} has the shape {array.shape}; save {key}.{what}")
        if array.shape[0] != count:
            raise DataError(
                f"{self.path}: {images} has {count:,} images and {key} {array.shape[0]:,} labels; "
                "each image needs one"
            )
        labels: list[int] = array.whole().tolist()
        return labels

    @cached_property
    def _parts(self) -> list[list[Part]]:
        """The part of each image, by pair. Raises `DataError` for what is wrong with the file."""
        _ = self._layout
        names, labels = self._classes, self._labels
        parts: list[list[Part]]
        if self.test:
            chosen = draw_test(labels[0], self.test)
            parts = [["test" if number in chosen else "train" for number in range(len(labels[0]))]]
        else:
            parts = [[part] * len(of) for part, of in zip(PARTS, labels, strict=True)]
        by_part: dict[Part, list[str]] = {part: [] for part in PARTS}
        for of_images, of_labels in zip(parts, labels, strict=True):
            for part, label in zip(of_images, of_labels, strict=True):
                by_part[part].append(names[label])
        check_classes(by_part)
        return parts

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        found = sorted(set().union(*self._labels))
        names = self._given_names()
        count = len(names) if names else len(found)
        wrong = [str(label) for label in found if not 0 <= label < count]
        if wrong:
            raise DataError(
                f"{self.path}: labels should be 0 to {count - 1}, as there are {count} classes; "
                f"found {', '.join(wrong[:10])}. To number them anew, all labels together: "
                "numpy.unique(labels, return_inverse=True)"
            )
        if len(found) < count:
            lacking = [
                f"{number} ({names[number]})" for number in sorted({*range(count)} - {*found})
            ]
            raise DataError(f"{self.path}: {listed('classes without an image', lacking)}")
        return names or tuple(str(number) for number in range(count))

    def _given_names(self) -> tuple[str, ...]:
        if CLASSES not in self._arrays:
            return ()
        array = self._arrays[CLASSES]
        if array.dtype.kind != "U" or len(array.shape) != 1 or array.shape[0] > MOST_CLASSES:
            raise DataError(
                f"{self.path}: {CLASSES} is {array.dtype} {array.shape}; it should be a list of "
                "names, numpy.array(['cat', 'dog'])"
            )
        names = tuple(array.whole().tolist())
        if len(set(names)) < len(names) or not all(map(_is_name, names)):
            raise DataError(
                f"{self.path}: two of its {CLASSES} have one name, or one has none that can be "
                "printed"
            )
        return names


@dataclass(frozen=True)
class Layout:
    """Height, width and channels of images, and whether the channels come first."""

    shape: tuple[int, int, int]
    first: bool

    def channels_last(self, image: np.ndarray) -> np.ndarray:
        """An image as height x width x channels."""
        return image.transpose(1, 2, 0) if self.first else image.reshape(self.shape)


def _layout_of(path: Path, key: str, array: StoredArray) -> Layout:
    shape = array.shape
    if array.dtype != np.uint8:
        raise DataError(
            f"{path}: {key} is {array.dtype}; pixels are uint8, 0 to 255, as "
            f"(255 * {key}).round().astype('uint8') gives where they lie in 0 to 1"
        )
    if len(shape) == 3:
        shape = (*shape, 1)
    last = len(shape) == 4 and _is_image(shape[3], shape[1:3])
    first = len(shape) == 4 and _is_image(shape[1], shape[2:])
    if last == first:
        raise DataError(
            f"{path}: {key} has the shape {array.shape}; it should be images x height x width, "
            f"with 1 to {MOST_CHANNELS} channels last or first, sides of {SMALLEST} to {LARGEST}"
        )
    *_, a, b, c = shape
    return Layout((b, c, a) if first else (a, b, c), first)


def _is_image(channels: int, sides: tuple[int, ...]) -> bool:
    return 1 <= channels <= MOST_CHANNELS and all(SMALLEST <= side <= LARGEST for side in sides)


def _is_name(text: str) -> bool:
    return bool(text.strip()) and text.isprintable()
