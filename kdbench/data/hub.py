"""Images of a data set of the Hugging Face hub, or of a local one that its library reads.

The address is that of the images' bytes and labels: whatever the hub shows tomorrow, a name stands
for the same images. The library runs no code of a data set.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from kdbench.data.files import DataError, Part, one_line
from kdbench.data.image_folder import MODES, TEST_NAMES, FolderSettings, decode
from kdbench.data.own_images import (
    PARTS,
    Example,
    check_classes,
    draw_test,
    listed,
    name_with_address,
)

#: Raise when the pixels that come out of a data set change.
VERSION = 1


@dataclass(frozen=True)
class HubImages:
    """A data set of the hub: its name or a path, and which configuration, revision and columns
    ("" for the only one)."""

    published: ClassVar[bool] = True
    hub: str
    settings: FolderSettings
    config: str = ""
    revision: str = ""
    image: str = ""
    label: str = ""

    def name(self) -> str:
        """The data set's name, with an address of its images, labels and settings."""
        settings = [VERSION, asdict(self.settings), self.classes()]
        digest = hashlib.sha256(json.dumps(settings).encode())
        for part, _, label, content in self._rows():
            digest.update(f"{part} {label} {hashlib.sha256(content).hexdigest()}\n".encode())
        return name_with_address(Path(self.hub).name, digest.hexdigest())

    def classes(self) -> tuple[str, ...]:
        """The class names, by number."""
        return tuple(next(iter(self._splits.values())).features[self._columns[1]].names)

    def shape(self, part: Part) -> tuple[int, int, int, int]:
        """Images x height x width x channels."""
        count = sum(which == part for parts in self._parts.values() for which in parts)
        return count, self.settings.size, self.settings.size, len(MODES[self.settings.channels])

    def examples(self) -> Iterator[Example]:
        """Every image, in the data set's order. Raises `DataError`, after the last, that lists
        those that cannot be read."""
        faults = []
        for part, place, label, content in self._rows():
            try:
                image = decode(io.BytesIO(content), self.settings)
            except Exception as error:  # a damaged image raises anything
                faults.append(f"{place}: {one_line(error)}")
                continue
            yield Example(part, image.transpose(1, 2, 0), label, place)
        if faults:
            raise DataError(listed(f"images of {self.hub} that cannot be read", faults))

    # -- what the library gives, checked

    def _rows(self) -> Iterator[tuple[Part, str, int, bytes]]:
        """Part, place, label and encoded image of every example."""
        image, label = self._columns
        for name, split in self._splits.items():
            for number, (part, row) in enumerate(zip(self._parts[name], split, strict=True)):
                encoded, place = row[image] or {}, f"{name}[{number}]"
                content = encoded.get("bytes")
                if content is None and encoded.get("path"):
                    content = Path(encoded["path"]).read_bytes()
                yield part, place, row[label], content or b""

    @cached_property
    def _all_splits(self) -> Mapping[str, Any]:
        options = {"name": self.config or None, "revision": self.revision or None}
        datasets = _library()
        try:
            loaded: Mapping[str, Any] = datasets.load_dataset(self.hub, **options)
        except Exception as error:  # the library raises errors of many kinds
            raise DataError(f"{self.hub} cannot be loaded: {one_line(error)}") from error
        return loaded

    @cached_property
    def _columns(self) -> tuple[str, str]:
        """The columns of images and labels."""
        datasets = _library()
        features = next(iter(self._all_splits.values())).features

        def column(key: str, chosen: str, kind: type) -> str:
            fitting = [name for name, feature in features.items() if isinstance(feature, kind)]
            if chosen in fitting or (not chosen and len(fitting) == 1):
                return chosen or fitting[0]
            found = ", ".join(f"{name} ({type(of).__name__})" for name, of in features.items())
            raise DataError(
                f"the data set {self.hub} has {len(fitting)} columns of the type {kind.__name__}: "
                f"{found}. Name one of them, as in {key}: COLUMN"
            )

        return (
            column("image", self.image, datasets.Image),
            column("label", self.label, datasets.ClassLabel),
        )

    @cached_property
    def _splits(self) -> dict[str, Any]:
        """The splits that are read, the first of which is trained on, with images as bytes."""
        splits, share = self._all_splits, self.settings.test
        test = next((name for name in TEST_NAMES if name in splits), None)
        if "train" not in splits or bool(test) == bool(share):
            found = ", ".join(splits)
            advice = (
                "leave data.test out" if test else "say which share is the test part (test: 20%)"
            )
            advice = advice if "train" in splits else "it needs one that is called train"
            raise DataError(f"the data set {self.hub} has the splits {found}; {advice}")
        image, label = self._columns
        encoded = _library().Image(decode=False)
        return {
            name: splits[name].select_columns([image, label]).cast_column(image, encoded)
            for name in ("train", test)
            if name
        }

    @cached_property
    def _parts(self) -> dict[str, list[Part]]:
        """The part of each image, by split. Raises `DataError` for labels that are none."""
        labels = {name: list(split[self._columns[1]]) for name, split in self._splits.items()}
        for name, numbers in labels.items():
            if without := sum(number is None or number < 0 for number in numbers):
                raise DataError(
                    f"the data set {self.hub} has {without} images without a label in {name}; "
                    "take a configuration (data.config) or a data set in which all have one"
                )
        if self.settings.test:
            (numbers,) = labels.values()
            chosen = draw_test(numbers, self.settings.test)
            drawn: list[Part] = ["test" if n in chosen else "train" for n in range(len(numbers))]
            parts = dict.fromkeys(labels, drawn)
        else:
            parts = {
                name: [part] * len(numbers)
                for part, (name, numbers) in zip(PARTS, labels.items(), strict=True)
            }
        names = self.classes()
        by_part: dict[Part, list[str]] = {part: [] for part in PARTS}
        for name, of_split in parts.items():
            for part, number in zip(of_split, labels[name], strict=True):
                by_part[part].append(names[number])
        check_classes(by_part)
        return parts


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise DataError("datasets is not installed: pip install 'kdbench[hub]'") from None
    return datasets
