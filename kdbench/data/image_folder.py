"""A folder of images: which file shows which class, in which part, and its pixels.

Either `train/CLASS/*` with `test/CLASS/*` (or `val/`), or `CLASS/*` of which a share is the test
part. The class list is that of the folders, sorted.
"""

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from kdbench.data.files import Arrays, DataError, Part

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
#: What file managers leave behind.
IGNORED = {"thumbs.db", "desktop.ini"}
TEST_NAMES = ("test", "val", "valid", "validation")
MODES = {"rgb": "RGB", "grey": "L"}
#: A file of more pixels is refused: few bytes can unpack to all of the memory.
MOST_PIXELS = 50_000_000
#: Raise when the pixels that come out of a file change.
VERSION = 1
#: A class with fewer images in the training part cannot be split for validation.
FEWEST = 2
#: Drawing of the test part of a folder without one.
SEED = 0


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

    root: Path
    settings: FolderSettings

    def scan(self) -> list[ImageFile]:
        """Every image, sorted by part and path. Raises `DataError` that lists what is wrong with
        the folder's layout."""
        if not self.root.is_dir():
            raise DataError(f"data.folder: {self.root} is not a folder")
        train, test = self.root / "train", _first_folder(self.root, TEST_NAMES)
        share = self.settings.test
        if train.is_dir():
            if test is None or share:
                extra = (
                    "leave data.test out" if test else f"it needs one of {', '.join(TEST_NAMES)}"
                )
                raise DataError(f"data.folder: {self.root} has a folder train; {extra}")
            files = [*_images(train, "train"), *_images(test, "test")]
        else:
            if not share:
                raise DataError(
                    f"data.folder: {self.root} has no folder train: add train/CLASS/* and "
                    "test/CLASS/*, or say which share of CLASS/* is the test part (test: 20%)"
                )
            files = _divided(_images(self.root, "train"), share)
        _check_classes(self.root, files)
        return files

    def name(self) -> str:
        """The data set's name: the folder's, with an address of its contents and settings."""
        digest = hashlib.sha256(json.dumps([VERSION, asdict(self.settings)]).encode())
        for file in self.scan():
            content = hashlib.sha256(file.path.read_bytes()).hexdigest()
            place = file.path.relative_to(self.root).as_posix()
            digest.update(f"{file.part} {place} {content}\n".encode())
        plain = re.sub(r"[^a-z0-9._-]+", "-", self.root.resolve().name.lower()).strip("-._")
        return f"{plain or 'images'}@{digest.hexdigest()[:12]}"

    def classes(self) -> tuple[str, ...]:
        """The class names, sorted."""
        return tuple(sorted({file.label for file in self.scan()}))

    def read(self) -> dict[Part, Arrays]:
        """The pixels and labels of both parts. Raises `DataError` that lists the files that cannot
        be read, and images that stand in both parts."""
        classes = {name: number for number, name in enumerate(self.classes())}
        pixels: dict[Part, list[np.ndarray]] = {"train": [], "test": []}
        labels: dict[Part, list[int]] = {"train": [], "test": []}
        where: dict[bytes, ImageFile] = {}
        faults, leaks = [], []
        for file in self.scan():
            try:
                image = decode(file.path, self.settings)
            except Exception as error:  # a damaged file raises anything
                faults.append(f"{file.path}: {type(error).__name__}: {error}")
                continue
            pixels[file.part].append(image)
            labels[file.part].append(classes[file.label])
            twin = where.setdefault(hashlib.sha256(image.tobytes()).digest(), file)
            if twin.part != file.part:
                leaks.append(f"{twin.path} and {file.path}")
        if faults:
            raise DataError(_listed("images that cannot be read; repair or remove them", faults))
        if leaks:
            raise DataError(
                _listed("images that stand in both parts, so that the test set leaks", leaks)
            )
        return {part: (np.stack(pixels[part]), np.array(labels[part])) for part in pixels}


def decode(path: Path, settings: FolderSettings) -> np.ndarray:
    """The pixels of a file: channels x size x size, uint8.

    Turned as its EXIF says; 16 bits become 8; what is transparent becomes white; the shorter
    side is scaled to `size` (bicubic, antialiased), and the middle is kept.
    """
    with Image.open(path) as opened:
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
        image = image.convert(MODES[settings.channels])
        side = (settings.size, settings.size)
        image = ImageOps.fit(image, side, Image.Resampling.BICUBIC)
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
        raise DataError(_listed("files that are no images of a class; remove them", others))
    return files


def _divided(files: list[ImageFile], share: float) -> list[ImageFile]:
    """The files with a share of each class in the test part."""
    from sklearn.model_selection import train_test_split

    labels = [file.label for file in files]
    if not files or min(Counter(labels).values()) < 2 * FEWEST:
        few = [f"{name} ({n})" for name, n in sorted(Counter(labels).items()) if n < 2 * FEWEST]
        raise DataError(
            _listed(f"classes of fewer than {2 * FEWEST} images", few or ["none at all"])
        )
    try:
        _, test = train_test_split(
            range(len(files)), test_size=share, stratify=labels, random_state=SEED
        )
    except ValueError as error:
        raise DataError(f"data.test: {error}") from None
    chosen = set(test)
    parts: Mapping[bool, Part] = {True: "test", False: "train"}
    return [ImageFile(f.path, f.label, parts[i in chosen]) for i, f in enumerate(files)]


def _check_classes(root: Path, files: list[ImageFile]) -> None:
    """Raise `DataError` where a class is in one part only, or too small to be split."""
    counts = {part: Counter(f.label for f in files if f.part == part) for part in ("train", "test")}
    names = sorted({file.label for file in files})
    if len(names) < 2:
        raise DataError(f"data.folder: {root} has {len(names)} classes with images; it takes 2")
    alone = [
        f"{name} (not in {part})" for name in names for part in counts if not counts[part][name]
    ]
    if alone:
        raise DataError(_listed(f"classes of {root} that stand in one part only", alone))
    few = [f"{n} ({counts['train'][n]})" for n in names if counts["train"][n] < FEWEST]
    if few:
        raise DataError(_listed(f"classes with fewer than {FEWEST} training images", few))


def _listed(what: str, items: list[str]) -> str:
    """What is wrong, with the first ten of the items."""
    rest = f"\n  and {len(items) - 10} more" if len(items) > 10 else ""
    return f"data.folder: {len(items)} {what}:" + "".join(f"\n  {i}" for i in items[:10]) + rest
