"""The one opening of the test set: scores a finished run's last and best weights together.

Only this module imports `open_test_set`; training, tuning and the choice of a checkpoint
cannot reach the test labels.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdbench import models
from kdbench.data import Views
from kdbench.data.load import TrainingData
from kdbench.data.test_set import TestData, open_test_set
from kdbench.records.store import Store
from kdbench.training.run import EVALUATION_BATCH
from kdbench.training.teachers import load_student

#: Bins of the expected calibration error (Guo et al. 2017 use 15).
ECE_BINS = 15


def score_run(
    store: Store, run_id: str, data: TrainingData, test: TestData, device: torch.device
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The test scores of a finished run and the arrays to keep beside them.

    Scores are fractions; `nll` is in nats. Writes nothing: the caller keeps it, once.
    """
    result = store.record(run_id).result
    assert result is not None, "only a finished run is scored"
    kept = ("last", "best") if result["best"] else ("last",)
    arrays: dict[str, np.ndarray] = {"labels": test.labels.numpy()}
    scores: dict[str, Any] = {"best": None}
    for which in kept:
        network = load_student(store, run_id, which, data)
        logits = test_logits(models.to_device(network, device), test, device)
        arrays[which] = logits.numpy()
        scores[which] = score(logits, test.labels, data.classes)
    return {"checksum": test.checksum, "images": len(test.labels), **scores}, arrays


def test_logits(network: torch.nn.Module, test: TestData, device: torch.device) -> Tensor:
    """images x classes, float32, on the CPU."""
    views = Views(test, "none", device)
    every = torch.arange(len(test.labels), device=device)
    with torch.no_grad():
        parts = [network(views.take(part)).cpu() for part in every.split(EVALUATION_BATCH)]
    return torch.cat(parts)


def score(logits: Tensor, labels: Tensor, classes: int) -> dict[str, Any]:
    """Accuracy, NLL (nats), ECE (15 bins), macro F1 and per-class accuracy of `logits`
    (images x classes) against `labels` (images)."""
    # Here, since the driver scores nothing and would carry 100 MB of it.
    from torchmetrics.functional.classification import (
        multiclass_accuracy,
        multiclass_calibration_error,
        multiclass_f1_score,
    )

    per_class = multiclass_accuracy(logits, labels, classes, average="none")
    # torchmetrics would give confidences of exactly 1 a sixteenth bin, and take logits that
    # all lie in [0, 1] for probabilities.
    below_one = 1 - torch.finfo(torch.float32).eps / 2
    probabilities = logits.softmax(1).clamp(max=below_one)
    return {
        "accuracy": float((logits.argmax(1) == labels).double().mean()),
        "nll": float(torch.nn.functional.cross_entropy(logits.double(), labels)),
        "ece": float(multiclass_calibration_error(probabilities, labels, classes, n_bins=ECE_BINS)),
        "f1": float(multiclass_f1_score(logits, labels, classes, average="macro")),
        "per_class": [float(v) for v in per_class],
    }


def open_test_set_of(data: TrainingData, folder: Path | None) -> TestData:
    """The test images and labels that belong to `data`."""
    return open_test_set(data.name, folder)
