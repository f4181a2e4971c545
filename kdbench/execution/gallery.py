"""The test images of a study's report: chosen and cut out when all of its runs are scored.

The choice reads the predictions that scoring kept, and only then the test set is opened, for the
pixels of the images that were chosen.
"""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.stats import mode

from kdbench.data import TrainingData
from kdbench.data.datasets import find_data_set
from kdbench.errors import KdbenchError
from kdbench.records.galleries import (
    BOTH_WRONG,
    DISAGREE,
    MOST_IMAGES,
    TEACHER_RIGHT,
    Gallery,
    ImageGroup,
    Predictor,
    ShownImage,
    Vote,
    gallery_path,
    write_gallery,
)
from kdbench.records.licences import Licence
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Store
from kdbench.report.data.confusion import predicted_classes
from kdbench.report.data.gallery import predictors_of
from kdbench.report.data.runs import TEACHER, records_frame
from kdbench.training.evaluate import open_test_set_of

#: Pixels of the longer side up to which an image is kept as it is; a larger one is scaled down to
#: the other number, so that a dozen take 60 kB at most.
EXACT, LONGEST = 32, 64
#: Of the JPEG files of images that were scaled down.
QUALITY = 80
#: Numbers of channels of grey and of coloured images.
CHANNELS = (1, 3)


class NotShown(KdbenchError):
    """Why test images cannot stand in a report."""


def keep_gallery(
    store: Store,
    study: str,
    data: TrainingData,
    licence: str | None,
    folder: Path | None,
    log: Callable[[str], None],
) -> None:
    """Choose the test images of a study's report and keep them in the root, if every run of the
    study is finished and scored; before that nothing of predictions or test set is read.

    `licence` is what the study file names for its images, `folder` the data folder. Where they
    cannot be had, `log` gets the reason and the report has none.
    """
    plan = PlanFile.load(store.plan_path(study))
    # Rows that are taken from a report have no predictions here.
    if plan is None or not plan.complete or plan.taken:
        return
    try:
        terms = Licence(licence) if licence else find_data_set(data.name, folder).licence
        gallery = make_gallery(store, plan, data, terms, folder) if terms else Gallery()
        if gallery:
            write_gallery(gallery_path(store.root, study), gallery)
    except KdbenchError as error:
        log(f"the report shows no test images: {error}")


def make_gallery(
    store: Store, plan: PlanFile, data: TrainingData, licence: Licence, folder: Path | None
) -> Gallery | None:
    """The gallery of a study whose runs are all scored; None where there are no two predictors to
    compare. Raises `NotShown`, `DataError` and `CorruptRecord`."""
    frame = records_frame(store, plan)
    predictors = predictors_of(frame, plan)
    if len(predictors) < 2:
        return None
    labels, predicted, counts = _votes(store, plan, predictors)
    kinds = kinds_of(labels, predicted, predictors[0].row == TEACHER)
    chosen = choose(kinds)
    test = open_test_set_of(data, folder)
    runs = [run for predictor in predictors for run in predictor.runs]
    scored = set(frame.loc[frame["id"].isin(runs), "test"])
    if scored != {test.checksum}:
        raise NotShown(
            f"the runs were scored on test images with the checksum {', '.join(sorted(scored))}, "
            f"and those of {test.name} here have {test.checksum}"
        )

    def shown(position: int) -> ShownImage:
        votes = (
            Vote(int(p[position]), int(c[position])) for p, c in zip(predicted, counts, strict=True)
        )
        content = encode(test.images[position].numpy(), test.scale)
        return ShownImage(
            position, int(labels[position]), tuple(votes), base64.b64encode(content).decode()
        )

    groups = (
        ImageGroup(kind, int(kinds[kind].sum()), tuple(map(shown, positions)))
        for kind, positions in chosen.items()
    )
    return Gallery(licence, len(labels), predictors, tuple(groups))


def _votes(
    store: Store, plan: PlanFile, predictors: Sequence[Predictor]
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """The true classes, and for each predictor the class that most of its runs give and how many
    do; each by test image."""
    classes = len(plan.data.classes) if plan.data else 0
    predicted, counts = [], []
    labels = np.empty(0, int)
    for predictor in predictors:
        found = [predicted_classes(store, run, plan.selection, classes) for run in predictor.runs]
        runs = [both for both in found if both]
        if len(runs) < len(found) or len({len(labels) for labels, _ in runs}) > 1:
            raise NotShown(f"the predictions of {predictor.label} are not all there")
        labels = runs[0][0]
        most = mode(np.stack([of_run for _, of_run in runs]), axis=0)  # the first of equal ones
        predicted.append(most.mode)
        counts.append(most.count)
    return labels, predicted, counts


def kinds_of(
    labels: np.ndarray, predicted: Sequence[np.ndarray], teacher: bool
) -> dict[str, np.ndarray]:
    """Which test images are of each kind that there can be, as truth values. `predicted` are the
    classes that each predictor gives, the teacher's first if there is a `teacher`, then those of
    the best methods."""
    first, second = predicted[:2]
    kinds = {}
    if teacher:
        kinds[TEACHER_RIGHT] = (first == labels) & (second != labels)
    kinds[BOTH_WRONG] = (first != labels) & (second != labels)
    methods = predicted[1:] if teacher else predicted
    if len(methods) == 2:
        kinds[DISAGREE] = methods[0] != methods[1]
    return kinds


def choose(kinds: Mapping[str, np.ndarray]) -> dict[str, list[int]]:
    """The positions that are shown of each kind: the first in the test set's order, as many of
    each kind and none twice."""
    each = MOST_IMAGES // len(kinds)
    chosen: dict[str, list[int]] = {}
    for kind, of_kind in kinds.items():
        before = {position for positions in chosen.values() for position in positions}
        new = (int(position) for position in np.flatnonzero(of_kind) if position not in before)
        chosen[kind] = list(islice(new, each))
    return chosen


def encode(image: np.ndarray, scale: int) -> bytes:
    """The file of a uint8 image (channels x height x width), in which `scale` is white: a PNG with
    all of its pixels, or of a large image a JPEG of a smaller one. Raises `NotShown` for other
    channels than those of a grey or a coloured image."""
    if len(image) not in CHANNELS:
        raise NotShown(f"they have {len(image)} channels, and no file of images has so many")
    pixels = np.rint(image.clip(max=scale) * (255 / scale)).astype(np.uint8).transpose(1, 2, 0)
    picture = Image.fromarray(pixels.squeeze(2) if len(image) == 1 else pixels)
    content = io.BytesIO()
    if max(picture.size) <= EXACT:
        # Uncompressed, since compressed bytes depend on the version of zlib.
        picture.save(content, "PNG", compress_level=0)
    else:
        picture.thumbnail((LONGEST, LONGEST))
        picture.save(content, "JPEG", quality=QUALITY)
    return content.getvalue()
