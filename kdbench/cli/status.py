"""How far a study is, from its plan file and records alone: no MLflow, no torch."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdbench.cli.progress import print_line
from kdbench.errors import KdbenchError
from kdbench.records import summary
from kdbench.records.measures import MEASURES
from kdbench.records.plan_file import PlanFile, PlannedRun, PlanRow
from kdbench.records.store import Record, RecordBusy, Store
from kdbench.records.workers import workers_by_run

STATES = ("done", "running", "waiting", "interrupted", "failed", "diverged")


class NoPlan(KdbenchError):
    """The study never ran in this root."""


@dataclass(frozen=True)
class RunState:
    """One run of the plan. `epoch` is the last one kept, `epochs` how many the run trains, and
    `worker` the host and process that train it."""

    id: str
    name: str
    kind: str
    state: str
    epoch: int = 0
    epochs: int = 0
    error: str = ""
    worker: str = ""


@dataclass(frozen=True)
class RowState:
    """One row of the leaderboard to be. Scores are in percent; None while there is none.

    `validation` is the best trial's, `test` the mean over the `finals_done` seeds.
    """

    label: str
    row: str
    trials_done: int
    trials: int
    validation: float | None
    finals_done: int
    finals: int
    test: float | None


@dataclass(frozen=True)
class StudyState:
    """How far a study is."""

    study: str
    question: str
    complete: bool
    runs: tuple[RunState, ...]
    rows: tuple[RowState, ...]

    @property
    def best(self) -> RowState | None:
        """The row with the highest mean test score so far, else validation score."""
        tested = [row for row in self.rows if row.test is not None]
        tuned = [row for row in self.rows if row.validation is not None]
        if tested:
            return max(tested, key=lambda row: row.test or 0.0)
        return max(tuned, key=lambda row: row.validation or 0.0, default=None)


def read_status(store: Store, study: str) -> StudyState:
    """The state of `study` in this root. Raises `NoPlan` where it never ran."""
    plan = PlanFile.load(store.plan_path(study))
    if plan is None:
        raise NoPlan(
            f"study '{study}' has not run under {store.root}; `kdbench study {study}` starts it, "
            "and --root names another folder"
        )
    workers = workers_by_run(store.plan_path(study))
    runs = [_run_state(store.record(id), run, workers) for id, run in plan.listing.items()]
    rows = [_row_state(store, row, plan) for row in plan.rows]
    return StudyState(plan.study, plan.question, plan.complete, tuple(runs), tuple(rows))


def _run_state(record: Record, run: PlannedRun, workers: Mapping[str, str]) -> RunState:
    spec = record.spec()
    if spec is None:
        return RunState(record.id, run.name, run.kind, "waiting")
    state, _ = summary.state(record, live=False)
    if state in ("failed", "interrupted") and _is_locked(record):
        state = "running"
    epochs = record.epochs()
    error = record.error["message"] if state == "failed" and record.error else ""
    last = epochs[-1]["epoch"] if epochs else 0
    worker = workers.get(record.id, "") if state == "running" else ""
    return RunState(record.id, run.name, run.kind, state, last, spec.recipe.epochs, error, worker)


def _is_locked(record: Record) -> bool:
    """Whether a process is writing the record now."""
    try:
        with record.writing():
            return False
    except RecordBusy:
        return True


def _row_state(store: Store, row: PlanRow, plan: PlanFile) -> RowState:
    trials = row.trials if row.row == "tuned" else ()
    validated = [100 * trial.accuracy for trial in trials if trial.accuracy is not None]
    ended = [all(store.record(run).result for run in trial.runs) for trial in trials]
    rule, measure = plan.selection, MEASURES[plan.measure]
    tests = [(record, record.test) for record in map(store.record, row.runs.values())]
    scores = [100 * summary.test_score(r, t, rule, measure)[0] for r, t in tests if t]
    return RowState(
        row.label,
        row.row,
        sum(ended),
        len(trials),
        max(validated, default=None),
        len(scores),
        len(row.runs),
        fmean(scores) if scores else None,
    )


def show_status(status: StudyState, console: Console) -> None:
    """Print the counts, what runs now, the rows and the best so far."""
    print_line(console, f"{status.study}: {status.question}")
    console.print(_counts_table(status))
    for run in status.runs:
        if run.state == "running":
            where = f" on {run.worker}" if run.worker else ""
            print_line(console, f"running  {run.name}: epoch {run.epoch} of {run.epochs}{where}")
        elif run.state == "failed":
            print_line(console, f"failed   {run.name}: {run.error}")
    console.print(_rows_table(status))
    best = status.best
    if best is None:
        print_line(console, "no score yet")
    elif best.test is not None:
        seeds = f"{best.finals_done} of {best.finals} seeds"
        print_line(
            console, f"best so far  {best.label} ({best.row}): {best.test:.2f} % over {seeds}"
        )
    else:
        print_line(
            console,
            f"best so far  {best.label} ({best.row}): {best.validation:.2f} % on validation data, "
            f"{best.trials_done} of {best.trials} trials",
        )
    if not status.complete:
        print_line(console, "not complete: the verdict comes with the leaderboard")


def _counts_table(status: StudyState) -> Table:
    states = [s for s in STATES if any(run.state == s for run in status.runs)]
    table = Table("runs", *states)
    for kind in dict.fromkeys(run.kind for run in status.runs):
        counts = Counter(run.state for run in status.runs if run.kind == kind)
        table.add_row(kind, *(str(counts[state] or "") for state in states))
    return table


def _rows_table(status: StudyState) -> Table:
    table = Table("method", "row", "trials", "validation %", "finals tested", "test %")
    for row in status.rows:
        table.add_row(
            Text(row.label),
            row.row,
            f"{row.trials_done}/{row.trials}" if row.trials else "",
            "" if row.validation is None else f"{row.validation:.2f}",
            f"{row.finals_done}/{row.finals}" if row.finals else "",
            "" if row.test is None else f"{row.test:.2f}",
        )
    return table
