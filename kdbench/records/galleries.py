"""The test images that a study's report shows, with the true classes and the predicted ones.

They are chosen and cut out once, when every run of the study is finished and scored, so that a
report needs neither the data set nor torch.
"""

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kdbench.errors import KdbenchError
from kdbench.records.bounded import refuse_control
from kdbench.records.files import write_json
from kdbench.records.licences import Licence
from kdbench.records.readers import CorruptRecord, read_object, sealed

#: The folder of all galleries, below a root.
FOLDER = "runs/galleries"
#: Images of a gallery.
MOST_IMAGES = 12
#: Bytes of an image's file.
MOST_BYTES = 32 << 10
TEACHER_RIGHT, BOTH_WRONG, DISAGREE = "teacher right", "both wrong", "disagree"
KINDS = (TEACHER_RIGHT, BOTH_WRONG, DISAGREE)
#: The formats of their files: all pixels of a small image, or a large one scaled down.
PNG, JPEG = "image/png", "image/jpeg"
#: The first bytes of a file by its format.
STARTS = {PNG: b"\x89PNG\r\n\x1a\n", JPEG: b"\xff\xd8\xff"}


class CorruptGallery(KdbenchError):
    """A gallery that cannot be read."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"the test images {path} cannot be read: {why}. `kdbench study {path.stem}` chooses "
            "them again; `kdbench doctor` moves the file aside."
        )
        self.why = why


@dataclass(frozen=True)
class Predictor:
    """Whose predictions stand under an image: the teacher, or a row of the leaderboard by label
    and row; `runs` are its scored runs."""

    label: str
    row: str
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Vote:
    """The class that most runs of a predictor give, the first of equally frequent ones, and how
    many runs give it."""

    predicted: int
    runs: int


@dataclass(frozen=True)
class ShownImage:
    """A test image by its position in the test set, from 0, with its true class and a vote of
    each predictor; `content` is its file in base64."""

    position: int
    label: int
    votes: tuple[Vote, ...]
    content: str


@dataclass(frozen=True)
class ImageGroup:
    """The images of one kind (of `KINDS`) that are shown, and how many such test images there
    are."""

    kind: str
    count: int
    images: tuple[ShownImage, ...]


@dataclass(frozen=True)
class Gallery:
    """What a report shows of the `tested` test images. The predictors are the teacher, where the
    study has one, and the one or two best methods. Without a licence there are neither predictors
    nor groups."""

    licence: Licence | None = None
    tested: int = 0
    predictors: tuple[Predictor, ...] = ()
    groups: tuple[ImageGroup, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The gallery as plain dictionaries, for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> "Gallery":
        """The gallery that `to_dict` and JSON made `raw` from. Raises `ValueError`."""
        from pydantic import TypeAdapter

        gallery = TypeAdapter(Gallery).validate_python(raw)
        kinds = [group.kind for group in gallery.groups]
        if kinds != [kind for kind in KINDS if kind in kinds]:
            raise ValueError(f"its kinds of images are {kinds!r:.100}")
        if bool(kinds) != (len(gallery.predictors) > 1) or (kinds and not gallery.licence):
            raise ValueError("it does not say whose predictions it shows, or under which licence")
        if len(gallery.images) > MOST_IMAGES:
            raise ValueError(f"it has {len(gallery.images)} images")
        for group in gallery.groups:
            if not len(group.images) <= group.count <= gallery.tested:
                raise ValueError(f"{group.count} of its test images are {group.kind!r}")
        for image in gallery.images:
            gallery._check(image)
        return gallery

    @property
    def images(self) -> tuple[ShownImage, ...]:
        """All images that are shown, in the order of the groups."""
        return tuple(image for group in self.groups for image in group.images)

    def check_classes(self, count: int) -> None:
        """Raise `ValueError` where a class is none of `count`."""
        for image in self.images:
            if not all(0 <= k < count for k in (image.label, *(v.predicted for v in image.votes))):
                raise ValueError(f"a class of test image {image.position} is none of {count}")

    def _check(self, image: ShownImage) -> None:
        if not 0 <= image.position < self.tested:
            raise ValueError(f"there is no test image {image.position}")
        media_type(image.content)
        runs = [len(predictor.runs) for predictor in self.predictors]
        votes = [vote.runs for vote in image.votes]
        if len(votes) != len(runs) or not all(0 < v <= n for v, n in zip(votes, runs, strict=True)):
            raise ValueError(f"the votes on test image {image.position} are not those of the runs")


def media_type(content: str) -> str:
    """The media type of an image's file in base64. Raises `ValueError` where it is none of
    `STARTS`, or too large."""
    decoded = base64.b64decode(content, validate=True)
    for name, start in STARTS.items():
        if decoded.startswith(start) and len(decoded) <= MOST_BYTES:
            return name
    raise ValueError(f"an image is no PNG or JPEG of {MOST_BYTES:,} bytes at most")


def gallery_path(root: Path, study: str) -> Path:
    """Where a root keeps the gallery of a study."""
    return root / FOLDER / f"{study}.json"


def read_gallery(path: Path) -> Gallery | None:
    """The gallery in a file, or None where there is no file. Raises `CorruptGallery`."""
    try:
        raw = read_object(path)
        refuse_control(raw)
        return None if raw is None else Gallery.from_dict(raw)
    except CorruptRecord as error:
        raise CorruptGallery(path, error.why) from error
    except (RecursionError, ValueError) as error:
        raise CorruptGallery(path, "it is no gallery") from error


def write_gallery(path: Path, gallery: Gallery) -> None:
    """Write a gallery as JSON with a checksum, whole or not at all."""
    write_json(path, sealed(gallery.to_dict()))
