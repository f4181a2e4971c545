"""The data of a study's report, collected from its plan, MLflow, the costs and the records."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from kdbench.errors import KdbenchError
from kdbench.masking import mask, safe_uri
from kdbench.records.costs import read_costs
from kdbench.records.plan_file import PlanFile
from kdbench.records.profiles import profile_path, read_profile
from kdbench.records.store import Store
from kdbench.report.data.confusion import confusions_frame
from kdbench.report.data.gallery import current_gallery
from kdbench.report.data.report_data import ReportData, tidy_curves, trials_frame
from kdbench.report.data.runs import (
    TEACHER,
    records_curves,
    records_frame,
    run_ids,
    runs_frame,
)
from kdbench.report.data.software import software_of
from kdbench.report.data.taken import with_taken_rows
from kdbench.report.data.validation import UnreadableReport, checked_cost, checked_plan, reason
from kdbench.tracking import curves, search, sync_study, tracking_uri
from kdbench.tracking.experiment import UnknownExperiment


class OutOfDate(KdbenchError, RuntimeError):
    """MLflow lacks results that the records have, of `count` runs; `kdbench sync` adds them."""

    def __init__(self, study: str, count: int) -> None:
        self.count = count
        super().__init__(
            f"MLflow is behind the records of study '{study}' by {count} "
            f"run{'s' * (count != 1)}: kdbench sync {study}"
        )


class NoPlan(KdbenchError, FileNotFoundError):
    """The study never ran in this root."""


def no_plan(store: Store, study: str) -> str:
    """The message about a study that never ran in a root."""
    return f"no plan of study '{study}' under {store.root}: run `kdbench study {study}` first"


def collect_report_data(store: Store, study: str, log: Callable[[str], None]) -> ReportData:
    """Collect all that a study's report is made from: its plan, the runs and curves in MLflow,
    the measured costs and the records' predictions.

    Where MLflow is behind the records it is brought up to date first. Where it cannot be asked,
    the same numbers are read from the records; `log` gets a sentence about either. Raises
    `NoPlan`, and `UnreadableReport` where plan or costs are not what kdbench writes.
    """
    try:
        try:
            return data_from_mlflow(store, study)
        except (OutOfDate, UnknownExperiment) as error:
            log(f"{error} ... doing that first")
            sync_study(store, study, tracking_uri(store.root))
            return data_from_mlflow(store, study)
    except (NoPlan, UnreadableReport):
        raise
    except Exception as error:
        # An error of a record comes again in the next line.
        data = data_from_records(store, study)
        uri = tracking_uri(store.root)
        why = mask(" ".join(str(error).split()))[:300] or type(error).__name__
        log(f"MLflow at {safe_uri(uri)} cannot be asked ({why}): read from the records instead")
        return data


def data_from_mlflow(store: Store, study: str) -> ReportData:
    """A report's data, with the runs and curves that MLflow has. Raises `NoPlan`, `OutOfDate`
    where MLflow lacks results that the records have, `UnknownExperiment`, and what MLflow
    raises."""
    plan, cost, uri = _plan(store, study), cost_of(store, study), tracking_uri(store.root)
    searched = search(study, uri, trials=False)
    frame = runs_frame(searched, plan, cost)
    count = count_out_of_date(store, frame)
    if count:
        raise OutOfDate(study, count)
    return _data(store, plan, cost, frame, curves(study, uri, run_ids(plan), searched))


def data_from_records(store: Store, study: str) -> ReportData:
    """The same data from the records alone. Raises `NoPlan` and `CorruptRecord`."""
    plan, cost = _plan(store, study), cost_of(store, study)
    frame = records_frame(store, plan, cost)
    data = _data(store, plan, cost, frame, records_curves(store, run_ids(plan)))
    return replace(data, from_records=True)


def _plan(store: Store, study: str) -> PlanFile:
    path = store.plan_path(study)
    plan = PlanFile.load(path)
    if plan is None:
        raise NoPlan(no_plan(store, study))
    try:
        return checked_plan(plan.to_dict())
    except ValueError as error:
        raise UnreadableReport(f"{path} cannot be read: {reason(error)}") from error


def cost_of(store: Store, study: str) -> Mapping[str, Any]:
    """The measured costs of a study as its report keeps them. Raises `CorruptCosts` and
    `UnreadableReport`."""
    path = store.costs_path(study)
    costs = {name: part for name, part in read_costs(path).items() if name != "measured"}
    try:
        return checked_cost(costs)
    except ValueError as error:
        raise UnreadableReport(f"{path} cannot be read: {reason(error)}") from error


def _data(
    store: Store,
    plan: PlanFile,
    cost: Mapping[str, Any],
    frame: pd.DataFrame,
    metrics: pd.DataFrame,
) -> ReportData:
    confusions = confusions_frame(store, plan, frame)
    trials = trials_frame(plan)
    profile = read_profile(profile_path(store.root, plan.study))
    kept = plan.without_runs()
    own = ReportData(
        kept, cost, frame, tidy_curves(metrics), trials, confusions,
        profile=profile, software=software_of(store, run_ids(plan)),
        gallery=current_gallery(store.root, frame, plan),
    )  # fmt: skip
    return with_taken_rows(store, own)


def count_out_of_date(store: Store, frame: pd.DataFrame) -> int:
    """How many runs of the frame are further on disk than in MLflow."""
    columns = ["id", "state", "row", "agreement", "teacher"]
    runs = frame[columns].dropna(subset=["id"]).itertuples(index=False, name=None)
    return len({run[0] for run in runs if _out_of_date(store, *run)})


def _out_of_date(
    store: Store, run: str, state: str, row: str, agreement: float, teacher: str | None
) -> bool:
    record = store.record(run)
    if state == "done":  # its fidelity waits for the teacher's own test scores
        if row == TEACHER or teacher is None or not pd.isna(agreement):
            return False
        return record.test is not None and store.record(teacher).test is not None
    result = record.result
    if result is None or state == result["state"]:
        return False
    return state != "unscored" or record.test is not None
