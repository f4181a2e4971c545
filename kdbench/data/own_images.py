"""What every source of a user's own images has in common: a folder, a file of arrays, a hub."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from kdbench.data.files import DataError, Part

#: Sides of an image, in pixels.
SMALLEST, LARGEST = 4, 1024
#: A class with fewer images in the training part cannot be split for validation.
FEWEST = 2
#: Drawing of the test part of images without one.
SEED = 0
PARTS: tuple[Part, ...] = ("train", "test")


class Example(NamedTuple):
    """An image (uint8, height x width x channels) with its class, and where it comes from."""

    part: Part
    image: np.ndarray
    label: int
    place: str


class Source(Protocol):
    """A user's own images. Each method raises `DataError` on what is wrong with them.

    `published` says whether others have these images too, so that none can be taken out.
    """

    published: ClassVar[bool]

    def name(self) -> str:
        """The data set's name, with an address of its contents: computed from them anew."""

    def classes(self) -> tuple[str, ...]:
        """The class names, by number."""

    def shape(self, part: Part) -> tuple[int, int, int, int]:
        """Images x height x width x channels."""

    def examples(self) -> Iterator[Example]:
        """Every image once, in a fixed order."""


def name_with_address(name: str, digest: str) -> str:
    """`flowers@0123456789ab`: a name in plain letters, and an address of contents and settings."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")
    return f"{plain or 'images'}@{digest[:12]}"


def draw_test(labels: Sequence[Any], share: float) -> set[int]:
    """Which examples are the test part: a share of each class. Raises `DataError`."""
    from sklearn.model_selection import train_test_split

    counts = sorted(Counter(labels).items())
    few = [f"{name} ({n})" for name, n in counts if n < 2 * FEWEST]
    if few or not counts:
        raise DataError(
            listed(f"classes of fewer than {2 * FEWEST} images", few or ["none at all"])
        )
    try:
        _, test = train_test_split(
            range(len(labels)), test_size=share, stratify=labels, random_state=SEED
        )
    except ValueError as error:
        raise DataError(f"data.test: {error}") from None
    return set(test)


def check_classes(labels: Mapping[Part, Sequence[Any]]) -> None:
    """Raise `DataError` where a class is in one part only, or too small to be split."""
    counts = {part: Counter(labels[part]) for part in PARTS}
    names = sorted(set().union(*counts.values()))
    if len(names) < 2:
        raise DataError(f"{len(names)} classes have images; it takes 2")
    alone = [
        f"{name} (not in {part})" for name in names for part in PARTS if not counts[part][name]
    ]
    if alone:
        raise DataError(listed("classes that stand in one part only", alone))
    few = [f"{name} ({counts['train'][name]})" for name in names if counts["train"][name] < FEWEST]
    if few:
        raise DataError(listed(f"classes with fewer than {FEWEST} training images", few))


def listed(what: str, items: Sequence[str]) -> str:
    """What is wrong, with the first ten of the items."""
    rest = f"\n  and {len(items) - 10} more" if len(items) > 10 else ""
    return f"{len(items)} {what}:" + "".join(f"\n  {item}" for item in items[:10]) + rest
