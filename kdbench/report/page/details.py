"""What is behind each row of the table: its runs, hyperparameters, trials and mistakes."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kdbench.report.data.report_data import ReportData
from kdbench.report.data.runs import PUBLISHED, TEACHER
from kdbench.report.leaderboard import Leaderboard
from kdbench.report.page.matrix import Matrix, matrix
from kdbench.report.writers.cells import MISSING

SCORES = {
    "accuracy": ("{score}, %", 100, 2),
    "nll": ("NLL, nats", 1, 3),
    "ece": ("ECE, %", 100, 2),
    "agreement": ("agreement, %", 100, 2),
    "measured.seconds": ("seconds (measured)", 1, 1),
}
"""A run's columns: heading, what to multiply by, decimals."""

MORE = {
    "iqm (descriptive)": ("interquartile mean (descriptive), %", 2),
    "probability of improvement, paired (descriptive)": (
        "probability of improvement over {reference}, paired (descriptive)", 2,
    ),
    "probability of improvement, unpaired (descriptive)": (
        "probability of improvement over {reference}, unpaired (descriptive)", 2,
    ),
    "gap recovered (descriptive)": (
        "share of the gap between {reference} and the teacher recovered (descriptive)", 2,
    ),
    "f1": ("F1, %", 2),
    "kl": ("KL to the teacher, nats", 3),
    "student_parameters": ("parameters of the student", 0),
    "parameters": ("parameters, with what is trained beside it", 0),
    "macs": ("multiply-adds of the student for one image", 0),
    "peak memory in MB (measured)": ("peak memory (measured), MB", 1),
}  # fmt: skip
"""What the table has no room for: what it is called, decimals."""

SHORT = 12
"""Characters of a commit that are shown."""


DIGITS = 5
LOSS = "train.loss"
ACCURACIES = {"val.accuracy": "validation accuracy", "train.accuracy": "training accuracy"}
Line = list[float | None]


@dataclass(frozen=True)
class Table:
    """Headings and rows of text."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Run:
    """One run in words. `anchor` is empty where another row has the run's anchor already,
    `search` where the run is not in MLflow."""

    seed: str
    id: str
    anchor: str
    outcome: str
    scores: tuple[str, ...]
    commit: str
    dirty: bool
    search: str


@dataclass(frozen=True)
class About:
    """All of one row. `why` says what there is no number of; `scores` are the headings of
    the runs' scores."""

    key: str
    name: str
    cite: str
    why: str
    scores: tuple[str, ...]
    runs: tuple[Run, ...]
    more: Table | None
    hparams: Table | None
    trials: Table | None
    matrix: Matrix | None

    @property
    def commits(self) -> bool:
        """Whether it is known what code made the runs."""
        return any(run.commit for run in self.runs)

    @property
    def searchable(self) -> bool:
        """Whether MLflow has the runs."""
        return any(run.search for run in self.runs)


def abouts(board: Leaderboard, evidence: ReportData) -> list[About]:
    """One for each row of the board, in its order."""
    plans = {(row["label"], row["row"]): row for row in evidence.plan["rows"]}
    # Results that were read from a file have no data set of ours, and are not in MLflow.
    data = evidence.plan.get("data") or {}
    seen: set[str] = set()
    found = []
    for number, row in enumerate(board.table.to_dict("records"), start=1):
        label, kind = str(row["method"]), str(row["row"])
        plan = plans.get((label, kind), {})
        own = _of(evidence.runs, label, kind)
        runs = own[own["id"].notna() | own["accuracy"].notna()]
        scores = [c for c in SCORES if runs[c].notna().any()]
        found.append(
            About(
                key=f"row-{number}",
                name=label if kind in (TEACHER, "only") else f"{label} ({kind})",
                cite=row["cite"] or "",
                why="" if len(runs) else _why(row),
                scores=tuple(_heading(c, board.score) for c in scores),
                runs=tuple(_run(r, scores, seen, bool(data)) for r in runs.to_dict("records")),
                more=_more(row, board.reference),
                hparams=_hparams(plan),
                trials=_trials(evidence.trials, label) if kind == "tuned" else None,
                matrix=_matrix(evidence.confusions, label, kind, data.get("classes") or ()),
            )
        )
    return found


def _of(frame: pd.DataFrame, label: str, kind: str) -> pd.DataFrame:
    return frame[(frame["label"] == label) & (frame["row"] == kind)]


def _heading(column: str, score: str) -> str:
    """A heading that breaks before its last word and unit, not between them."""
    return SCORES[column][0].format(score=score).replace(", ", ",\N{NO-BREAK SPACE}")


def _why(row: Mapping[Any, Any]) -> str:
    """Why a row has no run behind it."""
    if row["row"] == PUBLISHED:
        note = f" {row['hparams']}." if row["hparams"] else ""
        return f"Copied from a paper, so there is no run behind it.{note}"
    return f"No run: {row['reason'] or row['state']}."


def _run(run: Mapping[Any, Any], scores: list[str], seen: set[str], ours: bool) -> Run:
    name, commit = run["id"] or "", run["commit"] or ""
    anchor = "" if not name or name in seen else "run-" + re.sub(r"\s+", "-", name)
    seen.add(name)
    return Run(
        seed="" if pd.isna(run["seed"]) else str(run["seed"]),
        id=name,
        anchor=anchor,
        outcome=run["state"] if run["state"] == "done" else run["reason"] or run["state"],
        scores=tuple(_number(run[c], *SCORES[c][1:]) for c in scores),
        commit=commit[:SHORT],
        dirty=run["dirty"] is True,
        search=f"tags.`kdbench.id` = '{name}'" if ours and name else "",
    )


def _number(value: float, times: int, decimals: int) -> str:
    return MISSING if pd.isna(value) else f"{times * value:.{decimals}f}"


def _more(row: Mapping[Any, Any], reference: str) -> Table | None:
    """The row's numbers that stand in no column of the page's table."""
    rows = tuple(
        (words.format(reference=reference), f"{row[column]:.{decimals}f}")
        for column, (words, decimals) in MORE.items()
        if not pd.isna(row[column])
    )
    return Table(("number", "value"), rows) if rows else None


def _hparams(plan: Mapping[str, Any]) -> Table | None:
    """All hyperparameters of a row, and which of them tuning chose."""
    hparams = plan.get("hparams") or {}
    searched = set(plan.get("searched") or ())
    rows = ((k, _text(hparams[k]), "yes" if k in searched else "no") for k in sorted(hparams))
    return Table(("hparam", "value", "searched"), tuple(rows)) if hparams else None


def _trials(trials: pd.DataFrame, label: str) -> Table | None:
    """What tuning tried, a column for each hyperparameter."""
    own = trials[trials["label"] == label]
    if own.empty:
        return None
    tried = [json.loads(text) for text in own["hparams"]]
    names = sorted({name for hparams in tried for name in hparams})

    def rows() -> Iterator[tuple[str, ...]]:
        for trial, hparams in zip(own.to_dict("records"), tried, strict=True):
            yield (
                str(trial["number"]),
                *(_text(hparams[n]) if n in hparams else MISSING for n in names),
                _number(trial["accuracy"], 100, 2),
                _number(trial["nll"], 1, 3),
                "yes" if trial["chosen"] else "no",
            )

    ends = ("validation accuracy, %", "validation NLL, nats", "chosen")
    return Table(("trial", *names, *ends), tuple(rows()))


def _text(value: Any) -> str:
    """A hyperparameter's value with all its digits."""
    return value if isinstance(value, str) else json.dumps(value)


def _matrix(
    confusions: pd.DataFrame, label: str, kind: str, classes: tuple[str, ...]
) -> Matrix | None:
    return matrix(
        _of(confusions[confusions["against"] == "truth"], label, kind), tuple(map(str, classes))
    )


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
