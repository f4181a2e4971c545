"""Test images on the page: where teacher and best methods differ, and where both are wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

from kdbench.records.galleries import (
    BOTH_WRONG,
    DISAGREE,
    MOST_IMAGES,
    PNG,
    TEACHER_RIGHT,
    Gallery,
    ImageGroup,
    Predictor,
    ShownImage,
    media_type,
)
from kdbench.records.licences import Licence
from kdbench.report.data.report_data import ReportData
from kdbench.report.data.runs import TEACHER


@dataclass(frozen=True)
class VoteLine:
    """What a predictor says of an image; `share` says how many of its runs agree, and is empty
    where it has one run only."""

    name: str
    predicted: str
    share: str
    right: bool


@dataclass(frozen=True)
class Picture:
    """An image as a data URL, with the words beside it; `exact`: it has all of its pixels."""

    url: str
    exact: bool
    position: int
    label: str
    votes: tuple[VoteLine, ...]


@dataclass(frozen=True)
class PictureGroup:
    """The pictures of one kind; `count` says how many test images are of that kind."""

    title: str
    count: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Pictures:
    """All that the page shows of test images; `rule` says how they were chosen, or why there are
    none."""

    rule: str
    groups: tuple[PictureGroup, ...] = ()
    licence: Licence | None = None

    @property
    def scaled(self) -> bool:
        """Whether images are smaller here than in the data set."""
        return not all(picture.exact for group in self.groups for picture in group.pictures)


def pictures_of(data: ReportData) -> Pictures | None:
    """The test images of a report; None where none were looked for."""
    gallery, part = data.gallery, data.plan.data
    if gallery is None or part is None:
        return None
    if not gallery.groups:
        return Pictures(
            f"No test images are shown: neither the data set {part.name} nor the study file names "
            "a licence under which they may stand in a report."
        )
    classes = tuple(map(str, part.classes))
    groups = tuple(_group(group, gallery, classes) for group in gallery.groups)
    return Pictures(_rule(gallery), groups, gallery.licence)


def _rule(gallery: Gallery) -> str:
    each = MOST_IMAGES // len(gallery.groups)
    methods = [p for p in gallery.predictors if p.row != TEACHER]
    names = " and ".join(p.label if p.row == "only" else f"{p.label} ({p.row})" for p in methods)
    best = (
        "have the two best mean scores" if len(methods) > 1 else "is the only method with a score"
    )
    return (
        f"The first {each} test images of each kind in the order of the test set, none twice, with "
        "their positions in it from 0. The prediction of a method is the class that most of its "
        f"seeds give, of equally frequent ones the first. {names} {best}."
    )


def _group(group: ImageGroup, gallery: Gallery, classes: Sequence[str]) -> PictureGroup:
    names = ["the teacher" if p.row == TEACHER else p.label for p in gallery.predictors]
    title = {
        TEACHER_RIGHT: f"{names[0]} is right, {names[1]} is wrong",
        BOTH_WRONG: f"{names[0]} and {names[1]} are both wrong",
        DISAGREE: f"{names[-2]} and {names[-1]} disagree",
    }[group.kind]
    return PictureGroup(
        title[0].upper() + title[1:] if title.startswith("the teacher") else title,
        f"{len(group.images)} of {group.count:,} such images",
        tuple(_picture(image, gallery.predictors, classes) for image in group.images),
    )


def _picture(image: ShownImage, predictors: Sequence[Predictor], classes: Sequence[str]) -> Picture:
    kind = media_type(image.content)
    lines = (
        VoteLine(
            predictor.label,
            classes[vote.predicted],
            f"{vote.runs} of {len(predictor.runs)}" if len(predictor.runs) > 1 else "",
            vote.predicted == image.label,
        )
        for predictor, vote in zip(predictors, image.votes, strict=True)
    )
    return Picture(
        f"data:{kind};base64,{image.content}",
        kind == PNG,
        image.position,
        classes[image.label],
        tuple(lines),
    )
