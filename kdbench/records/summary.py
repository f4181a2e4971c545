"""What a record shows: its state, and how faithful the student is to its teacher."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from kdbench.records.fidelity import agreement, kl
from kdbench.records.measures import ACCURACY, Measure, largest_step, measured
from kdbench.records.store import Record

LARGEST_STEP = "largest_step"
"""What the most that one test image changes a score is called in tables and in MLflow."""


def finite(value: Any) -> bool:
    """Whether `value` is a number that MLflow can keep as it is."""
    return isinstance(value, int | float) and math.isfinite(value)


def state(record: Record, live: bool) -> tuple[str, str]:
    """The state as kdbench calls it, and MLflow's status. `live`: the run is being trained now."""
    result = record.result
    if result is not None:
        return result["state"], "FINISHED" if result["state"] == "done" else "FAILED"
    if record.error is not None:
        return "failed", "FAILED"
    return ("running", "RUNNING") if live else ("interrupted", "KILLED")


def nonfinite(rows: Iterable[Mapping[str, Any]]) -> str | None:
    """Where a metric was not finite, as `name at epoch n`; MLflow would store +inf as 1.8e308."""
    places = [
        f"{key} at epoch {row['epoch']}"
        for row in rows
        for key, value in row.items()
        if isinstance(value, float) and not math.isfinite(value)
    ]
    return ", ".join(places)[:500] or None


def fidelity(student: Record, teacher: Record, selection: str) -> dict[str, float] | None:
    """Agreement with the teacher and KL to it, on the test images.

    The teacher's weights are those of `selection` where it has them. None where either
    has no predictions (yet).
    """
    reference = logits_of(teacher, selection)
    return None if reference is None else fidelity_to(reference, student)


def logits_of(record: Record, selection: str) -> np.ndarray | None:
    """The logits of a run on the test images (images x classes), of the weights of `selection`
    where it has them; None where it has no predictions."""
    try:
        arrays = record.predictions()
    except FileNotFoundError:
        return None
    return arrays.get(selection, arrays["last"])


def fidelity_to(reference: np.ndarray, student: Record) -> dict[str, float] | None:
    """Agreement of a student with the logits of its teacher and KL to them; None where it has no
    predictions."""
    try:
        logits = student.predictions()
    except FileNotFoundError:
        return None
    values = {}
    for prefix, scores in (("test", "last"), ("test_best", "best")):
        if scores in logits:
            values[f"{prefix}.agreement"] = agreement(reference, logits[scores])
            values[f"{prefix}.kl"] = kl(reference, logits[scores])
    return {key: value for key, value in values.items() if finite(value)}


def class_scores(record: Record, measure: Measure) -> dict[str, float]:
    """What a measure adds to the scores of a tested run, from its predictions: the most that one
    image changes it, and its scores where they were not kept; empty for accuracy."""
    if measure == ACCURACY or record.test is None:
        return {}
    arrays, kept = record.predictions(), record.test
    labels = arrays["labels"]
    images = np.bincount(labels, minlength=arrays["last"].shape[1])
    values = {f"test.{measure.column}.{LARGEST_STEP}": largest_step(measure, images)}
    for prefix, rule in (("test", "last"), ("test_best", "best")):
        if rule in arrays and measure.column not in kept[rule]:
            predicted = arrays[rule].argmax(axis=1)
            values[f"{prefix}.{measure.column}"] = measured(measure, labels, predicted)
    return values


def test_score(
    record: Record, test: Mapping[str, Any], rule: str, measure: Measure
) -> tuple[float, float]:
    """The score of a run whose test scores these are, by a selection rule, and the most that one
    image changes it (0 for accuracy, whose images count alike)."""
    values = class_scores(record, measure)
    name = f"{'test_best' if rule == 'best' else 'test'}.{measure.column}"
    step = values.get(f"test.{measure.column}.{LARGEST_STEP}", 0.0)
    return values[name] if name in values else float(test[rule][measure.column]), step
