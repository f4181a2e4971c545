"""The spec of one run, and a row of its metrics."""

from typing import Any

from kdbench.records.spec import DataSpec, Recipe, RunSpec

SPEC = RunSpec(
    data=DataSpec("digits", "0123456789ab", 200, 0, "none", "fit"),
    models={"student": "digits-cnn-small"},
    method="kd",
    version=1,
    origin="kdbench",
    hparams={"temperature": 4.0, "alpha": 0.9},
    recipe=Recipe(
        20, 64, "adam", 2e-3, 0.0, 0.0, "step", (0.5, 0.75), 0.1, "fp32", "auto"
    ),
    seed=0,
    lineage=0,
    frozen_runs={"teacher": "ba9876543210"},
    frozen_epoch="last",
)  # fmt: skip


def row(epoch: int, value: float = 0.0) -> dict[str, Any]:
    return {"epoch": epoch, "train.loss": value}
