"""Confusion matrices: the counts of test images by expected and predicted class of a row."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from kdbench.records.plan_file import PlanFile
from kdbench.records.readers import CorruptRecord
from kdbench.records.store import Store
from kdbench.report.data.report_data import CONFUSIONS
from kdbench.report.data.runs import TEACHER

TRUTH = "truth"


def confusions_frame(store: Store, plan: PlanFile, runs: pd.DataFrame) -> pd.DataFrame:
    """Counts of test images by (expected, predicted) class for every row, from the records'
    predictions under the selection rule; against the true classes, and against what the
    row's teacher predicts. Runs without predictions add nothing."""
    classes, rule = len(plan.data.classes) if plan.data else 0, plan.selection
    done = runs[runs["state"] == "done"]
    teachers: dict[str, np.ndarray | None] = {}
    lines: list[tuple[Any, ...]] = []
    for (label, row), group in done.groupby(["label", "row"], sort=False):
        counts = {against: np.zeros((classes, classes), int) for against in (TRUTH, TEACHER)}
        for run, teacher in zip(group["id"], group["teacher"], strict=True):
            classes_of_run = predicted_classes(store, run, rule, classes)
            if classes_of_run is None:
                continue
            labels, predicted = classes_of_run
            counts[TRUTH] += _pairs(labels, predicted, classes)
            if teacher is None or row == TEACHER:
                continue
            if teacher not in teachers:
                classes_of_teacher = predicted_classes(store, teacher, rule, classes)
                teachers[teacher] = classes_of_teacher and classes_of_teacher[1]
            if (expected := teachers[teacher]) is not None:
                counts[TEACHER] += _pairs(expected, predicted, classes)
        for against, table in counts.items():
            lines += _lines(str(label), str(row), against, table)
    return pd.DataFrame(lines, columns=list(CONFUSIONS))


def _pairs(expected: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """The matrix (classes, classes) of how often each pair of classes occurs."""
    counts = np.bincount(expected.astype(int) * classes + predicted, minlength=classes**2)
    return counts.reshape(classes, classes)


def predicted_classes(
    store: Store, run: str, rule: str, classes: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """The true and the predicted class of every test image, or None. Raises `CorruptRecord`
    where they are none of the `classes`."""
    record = store.record(run)
    try:
        arrays = record.predictions()
    except FileNotFoundError:
        return None
    labels, logits = arrays["labels"], arrays.get(rule, arrays["last"])
    if logits.shape[1] > classes or (
        len(labels) and not 0 <= labels.min() <= labels.max() < classes
    ):
        raise CorruptRecord(record.path("test.npz"), f"it has other classes than the {classes}")
    return labels, logits.argmax(axis=1)


def _lines(label: str, row: str, against: str, table: np.ndarray) -> Iterable[tuple[Any, ...]]:
    for expected, predicted in np.argwhere(table):
        count = int(table[expected, predicted])
        yield label, row, against, int(expected), int(predicted), count
