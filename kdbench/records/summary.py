"""What a record shows: its state, and how faithful the student is to its teacher."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from kdbench.records.fidelity import agreement, kl
from kdbench.records.store import Record


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
    try:
        logits, teacher_logits = student.predictions(), teacher.predictions()
    except FileNotFoundError:
        return None
    reference = teacher_logits.get(selection, teacher_logits["last"])
    values = {}
    for prefix, scores in (("test", "last"), ("test_best", "best")):
        if scores in logits:
            values[f"{prefix}.agreement"] = agreement(reference, logits[scores])
            values[f"{prefix}.kl"] = kl(reference, logits[scores])
    return {key: value for key, value in values.items() if finite(value)}
