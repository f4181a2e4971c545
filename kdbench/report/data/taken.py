"""Rows that are taken from a report as they are, beside those of a method that was run here."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from kdbench.records.bounded import inside
from kdbench.records.files import atomic_write
from kdbench.records.store import Store
from kdbench.report.data.report_data import (
    NoReportData,
    ReportData,
    load,
    tidy_curves,
)
from kdbench.report.data.runs import SCORES, TEACHER, typed
from kdbench.report.data.software import merged
from kdbench.report.data.validation import UnreadableReport


def base_folder(store: Store, study: str) -> Path:
    """Where a root keeps the data of the report that a study takes rows from."""
    return store.root / "runs" / "base_reports" / study


def keep_base(store: Store, study: str, base: ReportData) -> None:
    """Keep the data of a report in the root, so that the study's own can be written again."""
    folder = base_folder(store, study)
    inside(folder, store.root)
    for name, content in base.files().items():
        atomic_write(folder / name, content)


def with_taken_rows(store: Store, own: ReportData) -> ReportData:
    """The data of a study's report with the rows that it takes from another one, if it does.
    Raises `UnreadableReport` where the copy of that one cannot be read."""
    if own.plan.taken is None:
        return own
    folder = base_folder(store, own.plan.study)
    try:
        return joined(load(folder), own)
    except (NoReportData, UnreadableReport) as error:
        raise UnreadableReport(
            f"the rows that '{own.plan.study}' takes from the report {own.plan.taken.report} "
            f"cannot be read from {folder}: start it again with --add and --with, which copies "
            "them anew"
        ) from error


def joined(base: ReportData, own: ReportData) -> ReportData:
    """The rows of `base` and those of a study that was run in the same setting. Teachers are
    those of `base`, and the plan names the ones whose scores are others here."""
    assert own.plan.taken is not None
    is_teacher = own.runs["row"] == TEACHER
    others = own.curves[~own.curves["id"].isin(base.curves["id"])]
    confusions = own.confusions[own.confusions["row"] != TEACHER]
    models = {**(base.plan.cites.get("models") or {}), **(own.plan.cites.get("models") or {})}
    plan = replace(
        base.plan,
        study=own.plan.study,
        hash=own.plan.hash,
        references=dict(sorted({**base.plan.references, **own.plan.references}.items())),
        cites={**base.plan.cites, "models": models},
        methods={**base.plan.methods, **own.plan.methods},
        complete=own.plan.complete,
        rows=(*base.plan.rows, *own.plan.rows),
        taken=replace(own.plan.taken, teachers=_other_scores(base.runs, own.runs[is_teacher])),
    )
    runs = pd.concat([base.runs, own.runs[~is_teacher]], ignore_index=True)
    trials = pd.concat([base.trials, own.trials], ignore_index=True)
    return ReportData(
        plan,
        base.cost,
        typed(runs),
        tidy_curves(pd.concat([base.curves, others])),
        trials.astype(base.trials.dtypes),
        pd.concat([base.confusions, confusions], ignore_index=True),
        own.from_records,
        own.profile or base.profile,
        software=merged(base.software, own.software),
    )


def _other_scores(base: pd.DataFrame, here: pd.DataFrame) -> dict[str, float]:
    """The accuracy here, a fraction, of the teachers whose test scores are not those of `base`."""
    there = base.drop_duplicates("id").set_index("id")
    names = [name for name in SCORES if here[name].notna().any()]
    return {
        str(row["id"]): float(row["accuracy"])
        for row in here.to_dict("records")
        if any(row[name] != there.loc[row["id"], name] for name in names)
    }
