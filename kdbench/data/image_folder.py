"""A folder of images: which file shows which class, in which part, and its pixels.

Either `train/CLASS/*` with `test/CLASS/*` (or `val/`), or `CLASS/*` of which a share is the test
part. The class list is that of the folders, sorted.
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np
from PIL import Image, ImageOps

from kdbench.data.files import DataError, Part
from kdbench.data.own_images import (
    PARTS,
    Example,
    check_classes,
    draw_test,
    listed,
    name_with_address,
)

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
#: What file managers leave behind.
IGNORED = {"thumbs.db", "desktop.ini"}
TEST_NAMES = ("test", "val", "valid", "validation")
MODES = {"rgb": "RGB", "grey": "L"}
#: A file of more pixels is refused: few bytes can unpack to all of the memory.
MOST_PIXELS = 50_000_000
#: Raise when the pixels that come out of a file change.
VERSION = 1


@dataclass(frozen=True)
class FolderSettings:
    """How a folder becomes images: the side of the square in pixels, `rgb` or `grey`, and the
    share of the images that is the test part (0 where the folder has one)."""

    size: int
    channels: str = "rgb"
    test: float = 0.0


@dataclass(frozen=True)
class ImageFile:
    """A file of a class in a part."""

    path: Path
    label: str
    part: Part


@dataclass(frozen=True)
class ImageFolder:
    """A folder of images. `scan` finds its files."""

    published: ClassVar[bool] = False
    root: Path
    settings: FolderSettings

    def scan(self) -> list[ImageFile]:
        """Every image, sorted by part and path. Raises `DataError` that lists what is wrong with
        the folder's layout."""
        if not self.root.is_dir():
            raise DataError(f"{self.root} is not a folder")
        train, test = self.root / "train", _first_folder(self.root, TEST_NAMES)
        share = self.settings.test
        if train.is_dir():
            if test is None or share:
                extra = (
                    "leave data.test out" if test else f"it needs one of {', '.join(TEST_NAMES)}"
                )
                raise DataError(f"{self.root} has a folder train; {extra}")
            files = [*_images(train, "train"), *_images(test, "test")]
        else:
            if not share:
                raise DataError(
                    f"{self.root} has no folder train: add train/CLASS/* and "
                    "test/CLASS/*, or say which share of CLASS/* is the test part (test: 20%)"
                )
            files = _divided(_images(self.root, "train"), share)
        check_classes({part: [f.label for f in files if f.part == part] for part in PARTS})
        return files

    def name(self) -> str:
        """The data set's name: the folder's, with an address of its contents and settings."""
        digest = hashlib.sha256(json.dumps([VERSION, asdict(self.settings)]).encode())
        for file in self.scan():
            content = hashlib.sha256(file.path.read_bytes()).hexdigest()
            place = file.path.relative_to(self.root).as_posix()
            digest.update(f"{file.part} {place} {content}\n".encode())
        return name_with_address(self.root.resolve().name, digest.hexdigest())

    def classes(self) -> tuple[str, ...]:
        """The class names, sorted."""
        return tuple(sorted({file.label for file in self.scan()}))

    def shape(self, part: Part) -> tuple[int, int, int, int]:
        """Images x height x width x channels."""
        count = sum(file.part == part for file in self.scan())
        size = self.settings.size
        return count, size, size, len(MODES[self.settings.channels])

    def examples(self) -> Iterator[Example]:
        """Every image. Raises `DataError`, after the last, that lists the files that cannot be
        read."""
        classes = {name: number for number, name in enumerate(self.classes())}
        faults = []
        for file in self.scan():
            try:
                image = decode(file.path, self.settings)
            except Exception as error:  # a damaged file raises anything
                faults.append(f"{file.path}: {type(error).__name__}: {error}")
                continue
            yield Example(file.part, image.transpose(1, 2, 0), classes[file.label], str(file.path))
        if faults:
            raise DataError(listed("images that cannot be read; repair or remove them", faults))


def decode(file: Path | BinaryIO, settings: FolderSettings) -> np.ndarray:
    """The pixels of an image file, as `decode_to` gives them for a square of `size`."""
    return decode_to(file, (settings.size, settings.size), MODES[settings.channels])


def decode_to(file: Path | BinaryIO, sides: tuple[int, int], mode: str) -> np.ndarray:
    """The pixels of an image file: channels x height x width (`sides`), uint8, as Pillow's `mode`.

    Turned as its EXIF says; 16 bits become 8; what is transparent becomes white; scaled until it
    covers height and width (bicubic, antialiased), and the middle is kept.
    """
    with Image.open(file) as opened:
        # The header says so before a pixel is unpacked.
        if opened.width * opened.height > MOST_PIXELS:
            raise ValueError(
                f"it has {opened.width}x{opened.height} pixels, too many for a picture"
            )
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith(("I", "F")):
            image = _eight_bits(image)
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        height, width = sides
        image = ImageOps.fit(image.convert(mode), (width, height), Image.Resampling.BICUBIC)
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy()


def _eight_bits(image: Image.Image) -> Image.Image:
    """An image of more than 8 bits; integers have 16, floating-point values lie in [0, 1]."""
    values = np.asarray(image, dtype=np.float64)
    scaled = values * 255 if image.mode == "F" else values / 257
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))


def _first_folder(root: Path, names: Iterable[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _images(root: Path, part: Part) -> list[ImageFile]:
    files, others = [], []
    for folder in sorted(path for path in root.iterdir() if not path.name.startswith(".")):
        if not folder.is_dir():
            if folder.name.lower() not in IGNORED:
                others.append(str(folder))
            continue
        label = unicodedata.normalize("NFC", folder.name)
        for path in sorted(folder.rglob("*")):
            hidden = any(p.startswith(".") for p in path.relative_to(folder).parts)
            if path.is_dir() or hidden or path.name.lower() in IGNORED:
                continue
            if path.suffix.lower() in SUFFIXES:
                files.append(ImageFile(path, label, part))
            else:
                others.append(str(path))
    if others:
        raise DataError(listed("files that are no images of a class; remove them", others))
    return files


def _divided(files: list[ImageFile], share: float) -> list[ImageFile]:
    """The files with a share of each class in the test part."""
    chosen = draw_test([file.label for file in files], share)
    parts: Mapping[bool, Part] = {True: "test", False: "train"}
    return [ImageFile(f.path, f.label, parts[i in chosen]) for i, f in enumerate(files)]
