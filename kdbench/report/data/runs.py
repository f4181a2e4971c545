"""One line for each run of a table row, from MLflow or from the records: the same numbers.

A frame holds every run that the plan names for a leaderboard row, finished or not, one
line for a method that cannot serve the pair, and the teachers. Scores are fractions,
losses nats, columns that begin with `measured.` are wall-clock or memory measurements
and may differ between equal studies; all others may not.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from kdbench.errors import KdbenchError, first_names
from kdbench.records.measures import ACCURACY, MEASURES
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Record, Store
from kdbench.records.summary import LARGEST_STEP, fidelity_to, finite, logits_of, test_score
from kdbench.report.columns import run_columns
from kdbench.tracking.payload import metric_name, section_name

SCORES = ("accuracy", *run_columns("score"))
COSTS = run_columns("cost")
MEASURED = run_columns("measured")
ORIGIN = ("device", "hardware", "torch", "commit", "dirty", "data", "test")
COLUMNS = (
    *("label", "row", "method", "seed", "id", "name", "state", "reason"),
    *SCORES,
    "images",
    *COSTS,
    *MEASURED,
    "teacher",
    *ORIGIN,
    "hparams",
)
TEXTS = ("label", "row", "method", "id", "name", "state", "reason", "teacher", *ORIGIN, "hparams")
UNFINISHED = {
    "missing": "not run yet",
    "running": "not finished",
    "interrupted": "interrupted",
    "unscored": "not scored yet",
}
"""States that the next start of the study will change, and their reasons in words."""

TEACHER = "teacher"
"""The value of `row` in a teacher's line."""

PUBLISHED = "published"
"""The value of `row` in a line that was copied from a paper."""

NEVER_MIXED = {
    "device": "devices",
    "torch": "torch versions",
    "data": "training data (checksums)",
    "test": "test sets (checksums)",
}


def columns_of(plan: PlanFile) -> tuple[str, ...]:
    """The columns of a plan's frame: a study of another score than accuracy has its score too,
    and the most that one test image changes it."""
    measure = MEASURES[plan.measure]
    extra = () if measure == ACCURACY else (measure.column, LARGEST_STEP)
    return tuple(dict.fromkeys((*COLUMNS, *extra)))


#: What may differ between runs that were made here and those that are taken from a report.
MACHINE = ("device", "torch")


class MixedRuns(KdbenchError, ValueError):
    """Runs that must not stand in one table, for they were not made alike."""


def runs_frame(search: pd.DataFrame, plan: PlanFile, cost: Mapping[str, Any] | None = None) -> Any:
    """The frame from `mlflow.search_runs`. Runs that the plan does not name are left out."""
    runs: dict[str, Mapping[str, Any]] = {}
    if "tags.kdbench.id" in search.columns:
        wanted = set(run_ids(plan))
        planned = search[search["tags.kdbench.id"].isin(wanted)]
        columns = [str(c) for c in planned.columns]
        for values in planned.itertuples(index=False, name=None):
            run = {k: v for k, v in zip(columns, values, strict=True) if _there(v)}
            runs.setdefault(run["tags.kdbench.id"], run)
    return _frame(plan, cost, lambda line: _from_mlflow(runs.get(line["id"]), plan))


def records_frame(store: Store, plan: PlanFile, cost: Mapping[str, Any] | None = None) -> Any:
    """The same frame from the records on disk."""
    teachers = cache(lambda run: logits_of(store.record(run), plan.selection))
    return _frame(plan, cost, lambda line: _from_record(store, line, plan, teachers))


def records_curves(store: Store, ids: Iterable[str]) -> pd.DataFrame:
    """The metrics over epochs of the runs in `ids`, one row a value, as
    `kdbench.tracking.curves` gives them."""
    rows = [
        (run, int(row["epoch"]), metric_name(key), float(value))
        for run in ids
        for row in store.record(run).epochs()
        for key, value in row.items()
        if key != "epoch" and finite(value)
    ]
    return pd.DataFrame(rows, columns=["id", "epoch", "metric", "value"])


def run_ids(plan: PlanFile) -> list[str]:
    """The ids of all runs that the leaderboard takes, teachers included, each once."""
    rows = [run for row in plan.rows for run in row.runs.values()]
    return list(dict.fromkeys([*rows, *_teachers(plan).values()]))


def refuse_mixture(frame: pd.DataFrame, taken: bool = False) -> None:
    """Raise `MixedRuns` where devices, torch versions or data differ, naming the runs; where some
    were `taken` from another report, only where data differ."""
    faults = []
    for column, words in NEVER_MIXED.items():
        if taken and column in MACHINE:
            continue
        groups = frame.dropna(subset=[column]).groupby(column, sort=True)
        if len(groups) < 2:
            continue
        parts = [f"{value}: {first_names(sorted(set(g['name'])), 4)}" for value, g in groups]
        faults.append(f"  different {words}\n    " + "\n    ".join(parts))
    if faults:
        raise MixedRuns(
            "these runs cannot stand in one table:\n"
            + "\n".join(faults)
            + "\nRun the study again in one place, or keep the two under different --root folders."
        )


# -- the lines


def _teachers(plan: PlanFile) -> dict[int, str]:
    """Teacher by the seed it was trained with."""
    ids = dict.fromkeys(plan.teachers.values())
    listing = plan.listing
    return {listing[i].seed if i in listing else k: i for k, i in enumerate(ids)}


def _lines(plan: PlanFile) -> Iterable[dict[str, Any]]:
    listing = plan.listing
    for row in plan.rows:
        hparams = json.dumps(row.hparams, sort_keys=True)
        base = {
            "label": row.label,
            "row": row.row,
            "method": row.method,
            "hparams": hparams,
        }
        if row.incompatible:
            # Before any run a method cannot serve the pair; while tuning, all trials diverge.
            state = "diverged" if row.row == "tuned" else "incompatible"
            yield base | {"state": state, "reason": row.incompatible}
            continue
        if not row.runs:
            yield base | {"state": "missing", "reason": "not tuned yet"}
        for seed, run in sorted((int(seed), run) for seed, run in row.runs.items()):
            name = listing[run].name if run in listing else f"{row.label} seed {seed}"
            yield base | {"seed": seed, "id": run, "name": name}
    for seed, run in sorted(_teachers(plan).items()):
        listed = listing.get(run)
        yield {
            "label": TEACHER,
            "row": TEACHER,
            "method": listed.method if listed else None,
            "seed": seed,
            "id": run,
            "name": listed.name if listed else f"teacher seed {seed}",
        }


def _frame(plan: PlanFile, cost: Mapping[str, Any] | None, read: Any) -> pd.DataFrame:
    rows = []
    for line in _lines(plan):
        if line.get("id"):
            line = line | read(line)
        price = ((cost or {}).get("rows") or {}).get(line["label"]) or {}
        for key in ("relative", "peak_mb"):
            if price.get(key) is not None:
                line[f"measured.{key}"] = price[key]
        if line["row"] == TEACHER:  # a teacher agrees with itself: nothing to report
            line["agreement"] = line["kl"] = None
        rows.append(line)
    return typed(pd.DataFrame(rows, columns=list(columns_of(plan)), dtype=object))


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns as whole numbers, floats, truth values and texts; None where there is none."""
    frame = frame.astype(object)
    for column in ("seed", "images", *COSTS):
        frame[column] = pd.to_numeric(frame[column]).astype("Int64")
    for column in (*SCORES, *MEASURED, *frame.columns.difference(list(COLUMNS))):
        frame[column] = pd.to_numeric(frame[column]).astype(float)
    texts = [c for c in COLUMNS if frame[c].dtype == object]
    # An empty text (a commit, where git did not answer) is none: CSV files cannot tell them apart.
    frame[texts] = frame[texts].where(frame[texts].notna() & (frame[texts] != ""), None)
    return frame


def _there(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and value != value)


def _reason(state: str, epoch: Any, error: Any) -> str | None:
    """Why a run has no score, in words; None for a run that has one."""
    if state == "diverged":
        return f"diverged in epoch {int(epoch)}" if _there(epoch) else "diverged"
    if state == "failed":
        return f"failed: {error}" if error else "failed"
    return UNFINISHED.get(state)


def _from_mlflow(run: Mapping[str, Any] | None, plan: PlanFile) -> dict[str, Any]:
    if run is None:
        return {"state": "missing", "reason": _reason("missing", None, None)}
    tag = {k.removeprefix("tags.kdbench."): v for k, v in run.items() if k.startswith("tags.kd")}
    state = tag.get("state") or "running"
    error = tag.get("error")
    values = {c: tag.get(c) for c in (*ORIGIN, TEACHER)}
    values["commit"] = run.get("tags.mlflow.source.git.commit")
    if values["dirty"] is not None:
        values["dirty"] = values["dirty"] == "true"
    values |= {c: _metric(run, f"cost.{c}") for c in COSTS}
    values |= {m: _metric(run, f"cost.{m.removeprefix('measured.')}") for m in MEASURED}
    if state == "done":
        test = "test_best." if plan.selection == "best" else "test."
        column = MEASURES[plan.measure].column
        values |= {c: _metric(run, test + c) for c in (*SCORES, column)}
        values["images"] = _metric(run, "test.images")
        values[LARGEST_STEP] = _metric(run, f"test.{column}.{LARGEST_STEP}")
        if values["accuracy"] is None or values[column] is None:
            state = "unscored"
    epoch = tag.get("diverged_epoch")
    return values | {"state": state, "reason": _reason(state, epoch, error)}


def _metric(run: Mapping[str, Any], key: str) -> Any:
    """The value in MLflow of what the records call `key`."""
    return run.get("metrics." + section_name(key))


def _from_record(
    store: Store,
    line: Mapping[str, Any],
    plan: PlanFile,
    teachers: Callable[[str], np.ndarray | None],
) -> dict[str, Any]:
    from kdbench.records.summary import state as record_state

    record = store.record(line["id"])
    result, test = record.result, record.test
    listed = plan.listing.get(line["id"])
    taught_by = listed.teacher if listed else None
    if result is None:
        error = record.error or {}
        state = record_state(record, live=False)[0] if record.spec() or error else "missing"
        text = error.get("message", error) if state == "failed" else None
        return {"state": state, "reason": _reason(state, None, text)}
    state = result["state"]
    values = {c: result.get(c) for c in (*COSTS, "device", "hardware", "commit", "dirty")}
    values["torch"] = (result.get("versions") or {}).get("torch")
    values["measured.seconds"] = result.get("seconds")
    values["data"] = plan.data.checksum if plan.data else None
    values[TEACHER] = taught_by
    if state == "done" and test is None:
        state = "unscored"
    elif state == "done" and test is not None:
        values |= {"test": test["checksum"], "images": test["images"]}
        values |= {k: v for k, v in (test[plan.selection] or {}).items() if k in SCORES}
        measure = MEASURES[plan.measure]
        if measure != ACCURACY:
            score, step = test_score(record, test, plan.selection, measure)
            values |= {measure.column: score, LARGEST_STEP: step}
        if line["row"] != TEACHER:
            teacher = teachers(taught_by) if taught_by else None
            values |= _fidelity(record, teacher, plan.selection)
    reason = _reason(state, result.get("diverged_epoch"), None)
    return values | {"state": state, "reason": reason}


def _fidelity(record: Record, teacher: np.ndarray | None, rule: str) -> dict[str, Any]:
    """Agreement with the teacher's logits and KL to them under the selection rule."""
    values = None if teacher is None else fidelity_to(teacher, record)
    prefix = "test_best." if rule == "best" else "test."
    return {key: (values or {}).get(prefix + key) for key in ("agreement", "kl")}
