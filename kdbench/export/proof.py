"""Whether an exported network answers as its run did when it was scored on the test set."""

import numpy as np

from kdbench.export.choice import Choice
from kdbench.export.description import Proof
from kdbench.export.errors import CannotExport
from kdbench.records.store import Record
from kdbench.training.evaluate import TestData

#: How far a logit may lie from the record's, as a share of the record's largest: wide enough for
#: the roundings of another library or device.
TOLERANCE = 1e-3


def prove(logits: np.ndarray, choice: Choice, name: str) -> Proof:
    """Hold the logits of the exported network (images x classes) against those of the record.

    An image whose two highest logits lie within twice the tolerance may get the other class.
    Raises `CannotExport` where a logit lies further away or another image has another class.
    """
    recorded = choice.record.predictions()[choice.which]
    tolerance = TOLERANCE * float(np.abs(recorded).max())
    if logits.shape != recorded.shape:
        raise CannotExport(
            f"{name} gives logits of {logits.shape}, and the record has {recorded.shape}"
        )
    away = np.abs(logits - recorded).max(axis=1)
    other = logits.argmax(axis=1) != recorded.argmax(axis=1)
    # Written so that a NaN is found.
    if wrong := int((~(away <= tolerance)).sum()):
        raise CannotExport(
            f"{name} does not answer as run {choice.record.id} did: the logits of {wrong} of "
            f"{len(logits)} test images lie up to {np.nanmax(away):.3g} away, {int(other.sum())} "
            f"images get another class, and {tolerance:.2g} is allowed. Export on the machine and "
            "with the versions that the run was made with"
        )
    return Proof(len(logits), float(away.max()), tolerance, int(other.sum()))


def require_same_test(test: TestData, record: Record) -> None:
    """Raise `CannotExport` where the record was scored on other test images."""
    scored = record.test
    if scored is None or scored["checksum"] != test.checksum:
        raise CannotExport(
            f"run {record.id} was scored on other test images: its checksum is "
            f"{(scored or {}).get('checksum')}, that of {test.name} here {test.checksum}"
        )
