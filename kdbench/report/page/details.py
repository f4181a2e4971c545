"""The details of each row of the table: its runs, hyperparameters, trials and confusions."""

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kdbench.records.measures import Measure
from kdbench.records.plan_file import PlanRow
from kdbench.records.titles import title_of
from kdbench.report.data.report_data import CONFIRMED, ReportData
from kdbench.report.data.runs import PUBLISHED, TEACHER
from kdbench.report.leaderboard import Leaderboard
from kdbench.report.page.matrix import ConfusionMatrix, confusion_matrix
from kdbench.report.page.method import MethodPanel, method_panel
from kdbench.report.rows import primary_rows, table_rows
from kdbench.report.writers.cells import MISSING

SCORES = {
    "accuracy": ("Test accuracy, %", 100, 2),
    "nll": ("NLL, nats", 1, 3),
    "ece": ("ECE, %", 100, 2),
    "agreement": ("agreement, %", 100, 2),
    "measured.seconds": ("seconds (measured)", 1, 1),
}
"""The columns of a run beside the score that is compared: heading, factor, decimals."""

SHORT = 12
"""Characters of a commit that are shown."""

CURVE_DIGITS = 5
LOSS = "train.loss"
ACCURACIES = {"val.accuracy": "validation accuracy", "train.accuracy": "training accuracy"}
"""The metrics of which one is shown, the first that the runs have."""

Curve = list[float | None]
"""A value for each epoch from 1 on, None where there is none."""


@dataclass(frozen=True)
class Table:
    """Headings and rows of text."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Run:
    """One run as text. `anchor` is empty where another row has the run's anchor already,
    `search` (a filter for MLflow's search box) where the run is not in MLflow."""

    seed: str
    id: str
    anchor: str
    outcome: str
    scores: tuple[str, ...]
    commit: str
    dirty: bool
    search: str


@dataclass(frozen=True)
class RowDetails:
    """The details of one row. `key` is its anchor, made of its label; `title` is the method's
    display name and `subtitle` the label and which of its rows it is; `main`: the row stands for
    its method. `why` is the reason if it
    has no runs; `scores` are the headings of the runs' scores."""

    key: str
    label: str
    main: bool
    name: str
    title: str
    subtitle: str
    cite: str
    method: MethodPanel
    why: str
    scores: tuple[str, ...]
    runs: tuple[Run, ...]
    more: Table | None
    hparams: Table | None
    trials: Table | None
    matrix: ConfusionMatrix | None

    @property
    def commits(self) -> bool:
        """Whether the commit of any run is known."""
        return any(run.commit for run in self.runs)

    @property
    def searchable(self) -> bool:
        """Whether any run is in MLflow."""
        return any(run.search for run in self.runs)


def row_details(board: Leaderboard, data: ReportData) -> list[RowDetails]:
    """The details of every row of the board, in its order."""
    plans = {(row.label, row.row): row for row in data.plan.rows}
    main = primary_rows(table_rows(data.runs, data.plan))
    # Results that were read from a file have no data set; neither they nor runs that were
    # taken from a report are in MLflow.
    dataset = data.plan.data
    taken = data.plan.taken.labels if data.plan.taken else ()
    anchored: set[str] = set()
    keys: set[str] = set()
    # Results made elsewhere have their score in the column of accuracy.
    compared = {board.measure.column: (f"{board.score}, %", 100, 2)}
    known = {**compared, **SCORES, **compared}
    details = []
    for row in board.table.to_dict("records"):
        label, kind = str(row["method"]), str(row["row"])
        plan = plans.get((label, kind))
        runs = _rows_of(data.runs, label, kind)
        runs = runs[runs["id"].notna() | runs["accuracy"].notna()]
        scores = {c: parts for c, parts in known.items() if runs[c].notna().any()}
        details.append(
            RowDetails(
                key=_anchor(label, kind, keys),
                label=label,
                main=label in main and main[label].row == kind,
                name=label if kind in (TEACHER, "only") else f"{label} ({kind})",
                title=title_of(data.plan, label),
                subtitle=label if kind in (TEACHER, "only") else f"{label} · {kind}",
                cite=row["cite"] or "",
                method=method_panel(data.plan, label, row["cite"]),
                why="" if len(runs) else _why(row),
                scores=tuple(_heading(text) for text, _, _ in scores.values()),
                runs=tuple(
                    _run(r, scores, anchored, dataset is not None and label not in taken)
                    for r in runs.to_dict("records")
                ),
                more=_more(row, board),
                hparams=_hparams(plan),
                trials=_trials(data.trials, label, board.measure) if kind == "tuned" else None,
                matrix=_matrix(data.confusions, label, kind, dataset.classes if dataset else ()),
            )
        )
    return details


def _rows_of(frame: pd.DataFrame, label: str, kind: str) -> pd.DataFrame:
    return frame[(frame["label"] == label) & (frame["row"] == kind)]


def _anchor(label: str, kind: str, taken: set[str]) -> str:
    """`rkd-tuned`, or `rkd` for the only row of a method, with a number where an anchor of
    `taken` is the same; it is added to them."""
    plain = re.sub(r"[^\w.]+", "-", label if kind in (TEACHER, "only") else f"{label}-{kind}")
    anchor = next(
        text
        for n in itertools.count(1)
        if (text := plain if n == 1 else f"{plain}-{n}") not in taken
    )
    taken.add(anchor)
    return anchor


def _heading(text: str) -> str:
    """A heading that breaks before its last word and unit, not between the two."""
    return text.replace(", ", ",\N{NO-BREAK SPACE}")


def _why(row: Mapping[Any, Any]) -> str:
    """Why a row has no runs."""
    if row["row"] == PUBLISHED:
        note = f" {row['hparams']}." if row["hparams"] else ""
        return f"Copied from a paper, so it has no runs.{note}"
    return f"No run: {row['reason'] or row['state']}."


def _run(
    run: Mapping[Any, Any],
    scores: Mapping[str, tuple[str, int, int]],
    anchored: set[str],
    tracked: bool,
) -> Run:
    """`scores` as in `SCORES`; `anchored` collects the ids that have an anchor; `tracked`: the run
    is in MLflow."""
    name, commit = run["id"] or "", run["commit"] or ""
    anchor = "" if not name or name in anchored else "run-" + re.sub(r"\s+", "-", name)
    anchored.add(name)
    return Run(
        seed="" if pd.isna(run["seed"]) else str(run["seed"]),
        id=name,
        anchor=anchor,
        outcome=run["state"] if run["state"] == "done" else run["reason"] or run["state"],
        scores=tuple(_number(run[c], *form) for c, (_, *form) in scores.items()),
        commit=commit[:SHORT],
        dirty=run["dirty"] is True,
        search=f"tags.`kdbench.id` = '{name}'" if tracked and name else "",
    )


def _number(value: float, factor: int, decimals: int) -> str:
    return MISSING if pd.isna(value) else f"{factor * value:.{decimals}f}"


def _more(row: Mapping[Any, Any], board: Leaderboard) -> Table | None:
    """The row's numbers that no column of the page's table shows."""
    rows = tuple(
        (column.detail.format(reference=board.reference), f"{row[column.name]:.{column.digits}f}")
        for column in board.columns
        if column.detail and not pd.isna(row[column.name])
    )
    return Table(("number", "value"), rows) if rows else None


def _hparams(row: PlanRow | None) -> Table | None:
    """All hyperparameters of a row, and which of them were tuned."""
    if row is None or not row.hparams:
        return None
    hparams, searched = row.hparams, set(row.searched)
    rows = ((k, _text(hparams[k]), "yes" if k in searched else "no") for k in sorted(hparams))
    return Table(("hyperparameter", "value", "searched"), tuple(rows))


def _trials(trials: pd.DataFrame, label: str, measure: Measure) -> Table | None:
    """The tuning trials of a method, with a column for each hyperparameter."""
    trials = trials[trials["label"] == label]
    if trials.empty:
        return None
    tried = [json.loads(text) for text in trials["hparams"]]
    names = sorted({name for hparams in tried for name in hparams})
    two_stages = CONFIRMED in trials

    def rows() -> Iterator[tuple[str, ...]]:
        for trial, hparams in zip(trials.to_dict("records"), tried, strict=True):
            yield (
                str(trial["number"]),
                *(_text(hparams[n]) if n in hparams else MISSING for n in names),
                _number(trial["accuracy"], 100, 2),
                _number(trial["nll"], 1, 3),
                *((_number(trial[CONFIRMED], 100, 2),) if two_stages else ()),
                "yes" if trial["chosen"] else "no",
            )

    again = (f"validation {measure.words} in the second stage, %",) if two_stages else ()
    ends = (f"validation {measure.words}, %", "validation NLL, nats", *again, "chosen")
    return Table(("trial", *names, *ends), tuple(rows()))


def _text(value: Any) -> str:
    """A hyperparameter's value with all its digits."""
    return value if isinstance(value, str) else json.dumps(value)


def _matrix(
    confusions: pd.DataFrame, label: str, kind: str, classes: tuple[str, ...]
) -> ConfusionMatrix | None:
    against_truth = confusions[confusions["against"] == "truth"]
    return confusion_matrix(_rows_of(against_truth, label, kind), tuple(map(str, classes)))


def accuracy_shown(curves: pd.DataFrame) -> str:
    """The accuracy that the chart shows, on validation data if there is any; empty if there
    is none."""
    metrics = set(curves["metric"])
    return next((name for metric, name in ACCURACIES.items() if metric in metrics), "")


def run_curves(curves: pd.DataFrame) -> dict[str, dict[str, Curve]]:
    """By run id the curves `accuracy` (fractions) and `loss`."""
    metrics = {LOSS: "loss"}
    metrics |= {m: "accuracy" for m, name in ACCURACIES.items() if name == accuracy_shown(curves)}
    shown = curves[curves["metric"].isin(metrics)]
    by_run: dict[str, dict[str, Curve]] = {}
    for (run, metric), group in shown.groupby(["id", "metric"], sort=True):
        values = dict(zip(group["epoch"].astype(int), group["value"], strict=True))
        by_run.setdefault(str(run), {})[metrics[str(metric)]] = _curve(values)
    return by_run


def _curve(values: Mapping[int, float]) -> Curve:
    return [_rounded(values.get(epoch, math.nan)) for epoch in range(1, max(values) + 1)]


def _rounded(value: float) -> float | None:
    """The value with the digits that a drawing needs; None if it is not finite."""
    return float(f"{value:.{CURVE_DIGITS}g}") if math.isfinite(value) else None
