"""The learning curves that the page draws, small enough to stand in it."""

import math
from collections.abc import Mapping

import pandas as pd

DIGITS = 5
LOSS = "train.loss"
ACCURACIES = {"val.accuracy": "validation accuracy", "train.accuracy": "training accuracy"}
"""The metrics that are worth a chart, the better first, and what they are called."""

Line = list[float | None]


def measure(curves: pd.DataFrame) -> str:
    """What the chart of accuracy shows: on validation data where there is any. Empty where
    there is nothing to show."""
    known = set(curves["metric"])
    return next((words for metric, words in ACCURACIES.items() if metric in known), "")


def lines(curves: pd.DataFrame) -> dict[str, dict[str, Line]]:
    """By run id `accuracy` (fractions) and `loss`, a value for each epoch from 1 on and
    None where there is none."""
    metrics = {LOSS: "loss"}
    metrics |= {m: "accuracy" for m, words in ACCURACIES.items() if words == measure(curves)}
    kept = curves[curves["metric"].isin(metrics)]
    found: dict[str, dict[str, Line]] = {}
    for (run, metric), group in kept.groupby(["id", "metric"], sort=True):
        values = dict(zip(group["epoch"].astype(int), group["value"], strict=True))
        found.setdefault(str(run), {})[metrics[str(metric)]] = _line(values)
    return found


def _line(values: Mapping[int, float]) -> Line:
    return [_rounded(values.get(epoch, math.nan)) for epoch in range(1, max(values) + 1)]


def _rounded(value: float) -> float | None:
    """Enough digits for a drawing; None for what cannot be drawn."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
