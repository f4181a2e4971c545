"""A committed report that one more method is compared with, and whether a study has its setting.

A report holds its plan and the scores of its runs, but neither weights nor predictions. So a
setting is the same where the study's file has the hash that the report names, and where the runs
that the report lists by id, its teachers, are those that the study plans now.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from kdbench.errors import KdbenchError
from kdbench.records.plan_file import PlanFile, PlanTaken
from kdbench.records.store import Record
from kdbench.report.data.report_data import ReportData, load
from kdbench.report.data.runs import SCORES
from kdbench.report.rows import in_family, primary_rows, table_rows

#: What a plan says of a setting, by the part of the study file that says it.
SETTING = {
    "data": "data",
    "models": "models",
    "teacher_weights": "teacher.weights",
    "recipe": "recipe",
    "tune": "tune",
    "selection": "final.epoch",
    "looks": "final.looks",
    "reference": "report.reference",
    "margin": "report.margin",
    "test": "report.test",
    "measure": "report.score",
}
#: What the same CPU computes the same bits on.
MACHINE = ("device", "hardware", "torch")


class DifferentSetting(KdbenchError):
    """A method cannot stand beside the rows of a report: something of its setting differs."""

    def __init__(self, folder: Path, differences: list[str]) -> None:
        lines = "".join(f"\n  - {line}" for line in differences)
        super().__init__(
            f"the report in {folder} cannot be taken, as its setting is another:{lines}\n"
            "Take the study as the report has it, or run all of its methods here."
        )


@dataclass(frozen=True, eq=False)
class BaseReport:
    """The report in `folder`; `study_hash` is that of the study file that is to be the same."""

    folder: Path
    data: ReportData
    study_hash: str

    @staticmethod
    def read(folder: Path, study_hash: str) -> "BaseReport":
        """Raises `DifferentSetting` for a report that is no whole study's, and as `load` does."""
        data = load(folder)
        plan = data.plan
        if plan.data is None or not plan.hash:
            raise DifferentSetting(folder, ["it was not made by a study of kdbench"])
        if plan.taken:
            raise DifferentSetting(folder, [f"its rows come from the report {plan.taken.report}"])
        if not plan.complete:
            raise DifferentSetting(folder, ["it is not complete"])
        return BaseReport(folder, data, study_hash)

    @property
    def plan(self) -> PlanFile:
        """What the report's study declared."""
        return self.data.plan

    @property
    def taken(self) -> PlanTaken:
        """What a plan says of the rows that are taken from the report."""
        labels = tuple(dict.fromkeys(row.label for row in self.plan.rows))
        return PlanTaken(self.plan.study, self.data.digest, labels)

    @property
    def seeds(self) -> set[int]:
        """The seeds of the reference."""
        rows = [row for row in self.plan.rows if row.label == self.plan.reference]
        return {int(seed) for row in rows for seed in row.runs}

    def scores(self) -> dict[str, Mapping[int, float]]:
        """The scores by seed, in percentage points, of the reference and of what is compared."""
        primary = primary_rows(table_rows(self.data.runs, self.plan))
        reference = self.plan.reference
        return {k: row.scores for k, row in primary.items() if k == reference or in_family(row)}

    # -- the same setting?

    def check(self, plan: PlanFile, seeds: tuple[int, ...]) -> None:
        """Raise `DifferentSetting` unless a study with this plan and these final seeds is of the
        report's setting."""
        differences = [
            line
            for name, place in SETTING.items()
            for line in _differences(place, getattr(plan, name), getattr(self.plan, name))
        ]
        # With looks a study may have ended before its last seeds.
        expected = set(seeds[: len(self.seeds)]) if plan.looks else set(seeds)
        if expected != self.seeds:
            here, there = _listed(expected), _listed(self.seeds)
            differences.append(f"final.seeds: {here} here, {there} there")
        if not differences and not plan.teachers.items() <= self.plan.teachers.items():
            here, there = (" and ".join(p.teachers.values()) for p in (plan, self.plan))
            differences.append(
                f"teacher: run {here} here, {there} there; its seed, its method or the version "
                "of that method has changed"
            )
        if not differences and self.study_hash != self.plan.hash:
            differences.append(
                f"the study file has the hash {self.study_hash} here, {self.plan.hash} there: its "
                "methods, its tuning seed or what else the report does not hold have changed"
            )
        if differences:
            raise DifferentSetting(self.folder, differences)

    def check_teacher(self, record: Record) -> None:
        """Raise `DifferentSetting` where a teacher that was trained and scored here is not the
        report's: scored on other images, or, on the CPU of a machine of the same kind and with the
        same torch, with other scores."""
        test, result = record.test, record.result
        lines = self.data.runs[self.data.runs["id"] == record.id].to_dict("records")
        if test is None or result is None or not lines:
            return
        there = lines[0]
        if test["checksum"] != there["test"]:
            line = f"test images: checksum {test['checksum']} here, {there['test']} there"
            raise DifferentSetting(self.folder, [line])
        # Weights that are given name no machine.
        machine = {**result, **result.get("versions", {})}
        same = machine.get("device") == "cpu" and all(machine[n] == there[n] for n in MACHINE)
        scores = test[self.plan.selection] or test["last"]
        others = [n for n in SCORES if n in scores and scores[n] != there[n]]
        if same and others:
            differences = [
                f"teacher {record.id}: {name} on test {scores[name]} here, {there[name]} there, on "
                "a machine of the same kind"
                for name in others
            ]
            raise DifferentSetting(self.folder, differences)


def _differences(place: str, here: Any, there: Any) -> Iterator[str]:
    """Where two values of a plan differ, by the keys of a study file."""
    if here == there:
        return
    if is_dataclass(here) and type(here) is type(there):
        for part in fields(here):
            name = f"{place}.{part.name}"
            yield from _differences(name, getattr(here, part.name), getattr(there, part.name))
    elif isinstance(here, Mapping) and isinstance(there, Mapping):
        for key in sorted({*here, *there}):
            yield from _differences(f"{place}.{key}", here.get(key), there.get(key))
    else:
        yield f"{place}: {_said(here)} here, {_said(there)} there"


def _said(value: Any) -> str:
    return "none" if value in (None, "", ()) else str(value)


def _listed(seeds: set[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))
