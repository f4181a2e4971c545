"""The data of a study's report, collected from its plan, MLflow, the costs and the records."""

import pandas as pd

from kdbench.errors import KdbenchError
from kdbench.records.costs import read_costs
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Store
from kdbench.report.data.confusion import confusions_frame
from kdbench.report.data.report_data import ReportData, tidy_curves, trials_frame
from kdbench.report.data.runs import TEACHER, run_ids, runs_frame
from kdbench.tracking import curves, search, tracking_uri


class OutOfDate(KdbenchError, RuntimeError):
    """MLflow lacks results that the records have, of `count` runs; `kdbench sync` adds them."""

    def __init__(self, study: str, count: int) -> None:
        self.count = count
        super().__init__(
            f"MLflow is behind the records of study '{study}' by {count} "
            f"run{'s' * (count != 1)}: kdbench sync {study}"
        )


def no_plan(store: Store, study: str) -> str:
    """The message about a study that never ran in a root."""
    return f"no plan of study '{study}' under {store.root}: run `kdbench study {study}` first"


def collect_report_data(store: Store, study: str) -> ReportData:
    """Collect all that a study's report is made from: its plan, the runs and curves in MLflow,
    the measured costs and the records' predictions.

    Raises `FileNotFoundError` where the study has no plan, `LookupError` where MLflow has
    no such experiment, `OutOfDate` where MLflow lacks results that the records have, and
    `CorruptPlan`, `CorruptCosts` or `CorruptRecord` for a damaged file.
    """
    plan = PlanFile.load(store.plan_path(study))
    if plan is None:
        raise FileNotFoundError(no_plan(store, study))
    uri = tracking_uri(store.root)
    cost = read_costs(store.costs_path(study))
    searched = search(study, uri, trials=False)
    frame = runs_frame(searched, plan, cost)
    count = count_out_of_date(store, frame)
    if count:
        raise OutOfDate(study, count)
    metrics = tidy_curves(curves(study, uri, run_ids(plan), searched))
    confusions = confusions_frame(store, plan, frame)
    return ReportData(plan.without_runs(), cost, frame, metrics, trials_frame(plan), confusions)


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
