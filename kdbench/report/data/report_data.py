"""All that a report is made from, and the files that keep it beside the tables.

A clone of the project has no MLflow and no records; these files are enough to write every
table and figure again, and to check every number in them.
"""

import gzip
import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from kdbench.errors import KdbenchError
from kdbench.records.galleries import Gallery
from kdbench.records.measures import MEASURES
from kdbench.records.plan_file import PlanFile
from kdbench.records.profiles import Profile
from kdbench.report.data.formulas import escape_formulas
from kdbench.report.data.runs import TEXTS, columns_of, typed
from kdbench.report.data.software import Software, checked_software
from kdbench.report.data.validation import (
    UnreadableReport,
    check_runs,
    check_tables,
    checked_cost,
    checked_gallery,
    checked_plan,
    checked_profile,
    parse_json,
    read_table,
    reason,
)

CURVES = ("id", "epoch", "metric", "value")
TRIALS = ("label", "number", "runs", "accuracy", "nll", "chosen", "hparams")
CONFIRMED = "confirmed"
"""A column of the trials of a tuning in two stages: the mean accuracy in the second."""
CONFUSIONS = ("label", "row", "against", "expected", "predicted", "count")
TEXTS_OF = {
    "runs": tuple(c for c in TEXTS if c != "dirty"),
    "curves": ("id", "metric"),
    "trials": ("label", "runs", "hparams"),
    "confusions": ("label", "row", "against"),
}
"""Their columns that hold texts, also where a text looks like a number."""
STUDY = "study.json"
FORMAT = 2
"""The format of a report, in its `study.json`: raised with every change of these files that a
reader of the other format would misread."""
WALL_CLOCK = ("seconds",)
"""Metrics over epochs that two equal runs may differ in."""
AGAIN = "`kdbench report` writes it again from MLflow"


def tables_of(plan: PlanFile) -> dict[str, tuple[str, ...]]:
    """The tables that a report keeps, and the columns of their files."""
    score = MEASURES[plan.measure].column
    trials = tuple(score if name == "accuracy" else name for name in TRIALS)
    again = (CONFIRMED,) if plan.tune and plan.tune.confirm else ()
    return {
        "runs": columns_of(plan),
        "curves": CURVES,
        "trials": (*trials, *again),
        "confusions": CONFUSIONS,
    }


class NoReportData(KdbenchError, FileNotFoundError):
    """A folder lacks the numbers that its tables were made from."""


@dataclass(frozen=True, eq=False)
class ReportData:
    """What the plan declared, and what its runs gave.

    `plan`: study, question, rows, tuning budget, references, without the listing of runs
    and the trials. `cost`: the measured costs. `runs`: `columns_of(plan)`, one line a final run
    or teacher. `curves`: a metric of a run after an epoch. `trials`: the validation scores of
    tuning (fractions, nats), where `accuracy` is the plan's measure, by whose name the file calls
    it; `chosen` marks the winner, `hparams` is JSON. `confusions`:
    counts of test images over a row's runs; `expected` is the true class (`against` = truth)
    or the teacher's prediction (`against` = teacher), both as indices. `from_records`: MLflow
    could not be asked for `runs` and `curves`, and they come from the records. `profile`: what was
    measured of the study's networks, if it was. `columns` are those that were chosen for the table
    in a paper. `software`: the versions of what made the numbers, by package. `gallery`: the test
    images that are shown, if they were chosen.
    """

    plan: PlanFile
    cost: Mapping[str, Any]
    runs: pd.DataFrame
    curves: pd.DataFrame
    trials: pd.DataFrame
    confusions: pd.DataFrame
    from_records: bool = False
    profile: Profile | None = None
    columns: tuple[str, ...] = ()
    software: Software = field(default_factory=dict)
    gallery: Gallery | None = None

    def files(self) -> dict[str, bytes]:
        """The files' contents by name: the same bytes from the same numbers."""
        study = {"format": FORMAT, "cost": self.cost, "plan": self.plan.to_dict(runs=False)}
        if self.from_records:
            study["from_records"] = True
        if self.profile is not None:
            study["profile"] = self.profile.to_dict()
        if self.gallery is not None:
            study["gallery"] = self.gallery.to_dict()
        if self.columns:
            study["columns"] = list(self.columns)
        if self.software:
            study["software"] = {name: list(found) for name, found in self.software.items()}
        return {
            STUDY: (json.dumps(study, indent=1, sort_keys=True) + "\n").encode(),
            "runs.csv.gz": compress(csv(self.runs[list(columns_of(self.plan))])),
            "curves.csv.gz": compress(csv(self.curves)),
            "trials.csv.gz": compress(csv(self._named_trials)),
            "confusions.csv.gz": compress(csv(self.confusions)),
        }

    @property
    def _named_trials(self) -> pd.DataFrame:
        return self.trials.rename(columns={"accuracy": MEASURES[self.plan.measure].column})

    @property
    def digest(self) -> str:
        """16 hex digits of sha256 over everything but what was measured with a clock and what
        methods say of themselves: two equal studies have the same."""
        timed = self.curves["metric"].str.startswith("measured.").astype(bool)
        parts = (
            json.dumps(replace(self.plan, methods={}).to_dict(runs=False), sort_keys=True).encode(),
            csv(self.runs[[c for c in columns_of(self.plan) if not c.startswith("measured.")]]),
            csv(self.curves[~timed]),
            csv(self._named_trials),
            csv(self.confusions),
        )
        whole = hashlib.sha256()
        for part in parts:
            whole.update(hashlib.sha256(part).digest())
        return whole.hexdigest()[:16]


def load(folder: Path) -> ReportData:
    """The data in a report's folder.

    Raises `NoReportData` where a file is missing, and `UnreadableReport` where the report is
    of another format, pooled from other reports, or not what kdbench writes.
    """
    study = read_study(folder)
    if "pooled" in study:
        parts = ", ".join(study["pooled"])
        raise UnreadableReport(
            f"{folder} is pooled from the reports of {parts}, which have the data: name one of them"
        )
    place = folder / STUDY
    try:
        plan, cost = checked_plan(study.get("plan")), checked_cost(study.get("cost"))
        software = checked_software(study.get("software", {}))
        profile = checked_profile(study.get("profile"))
        gallery = checked_gallery(study.get("gallery"), plan)
        frames = {}
        for name, columns in tables_of(plan).items():
            place = _file(folder, f"{name}.csv.gz")
            frames[name] = read_table(place, folder, columns, dict.fromkeys(TEXTS_OF[name], str))
        frames["runs"] = typed(frames["runs"])
        frames["trials"].columns = [*TRIALS, CONFIRMED][: frames["trials"].shape[1]]
        place = folder
        check_runs(frames["runs"])
        check_tables(plan, frames["curves"], frames["trials"], frames["confusions"])
    except NoReportData:
        raise
    except (OSError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UnreadableReport(f"{place} cannot be read: {reason(error)}. {AGAIN}") from error
    columns = study.get("columns", [])
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise UnreadableReport(
            f"{folder / STUDY} cannot be read: its columns are no names. {AGAIN}"
        )
    from_records = bool(study.get("from_records"))
    return ReportData(
        plan, cost, **frames, from_records=from_records, profile=profile, columns=tuple(columns),
        software=software, gallery=gallery,
    )  # fmt: skip


def read_study(folder: Path) -> dict[str, Any]:
    """The content of a report's `study.json`. Raises as `load` does."""
    path = _file(folder, STUDY)
    try:
        study = parse_json(path, folder)
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableReport(f"{path} cannot be read: {reason(error)}. {AGAIN}") from None
    number = study.get("format") if isinstance(study, dict) else None
    if type(number) is not int or number != FORMAT:
        version = "a later" if type(number) is int and number > FORMAT else "an earlier"
        raise UnreadableReport(
            f"{path} was written by {version} version of kdbench (report format {number}, this one "
            f"reads {FORMAT}): write the report again with `kdbench report`, or check it with "
            "the version that its runs.csv.gz names by commit"
        )
    return dict(study)


def _file(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file() and os.path.lexists(path):
        raise UnreadableReport(f"{path} is no file: move it away. {AGAIN}")
    if not path.is_file():
        raise NoReportData(
            f"{folder} holds no {name}, which the report of a study has beside its tables: name "
            "the folder of a report, or let `kdbench report` write it"
        )
    return path


# -- from the plan and MLflow


def trials_frame(plan: PlanFile) -> pd.DataFrame:
    """The trials of all tuned rows, one line each."""
    lines = [
        {
            "label": row.label,
            "number": trial.number,
            "runs": " ".join(trial.runs),
            "accuracy": trial.accuracy,
            "nll": trial.nll,
            "chosen": trial.number == row.best_trial,
            "hparams": json.dumps(trial.hparams, sort_keys=True),
        }
        for row in plan.rows
        for trial in row.trials
    ]
    frame = pd.DataFrame(lines, columns=list(TRIALS)).astype({"accuracy": float, "nll": float})
    if plan.tune and plan.tune.confirm:
        again = [trial.confirmed for row in plan.rows for trial in row.trials]
        frame[CONFIRMED] = [sum(a) / len(a) if a else float("nan") for a in again]
    return frame


def tidy_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """The curves in a fixed order; `measured.` marks wall-clock metrics."""
    curves = curves[list(CURVES)].copy()
    timed = curves["metric"].isin(WALL_CLOCK)
    curves["metric"] = curves["metric"].where(~timed, "measured." + curves["metric"])
    return curves.sort_values(["id", "metric", "epoch"], kind="stable", ignore_index=True)


# -- bytes


def csv(frame: pd.DataFrame) -> bytes:
    """A frame as CSV, with all digits that reading back needs and the same line ends everywhere,
    and without a text that a spreadsheet would take for a formula."""
    return escape_formulas(frame).to_csv(index=False, lineterminator="\n").encode()


def compress(content: bytes) -> bytes:
    """Compress with gzip, without name and time: equal content gives equal bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=9, mtime=0) as file:
        file.write(content)
    return buffer.getvalue()
