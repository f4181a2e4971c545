"""From a study file to finished runs and reports: one study, or one for each of its students."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kdbench.execution.errors import InvalidOption
from kdbench.execution.protocols import PrintReporter, ProgressReporter
from kdbench.execution.run_study import (
    Options,
    asked_changes,
    prepare,
    publish_report,
    train_study,
)
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Store
from kdbench.records.students import SUFFIX, read_students, students_path, write_students
from kdbench.report.data.report_data import load
from kdbench.report.pooled import PooledTable, pool_settings
from kdbench.report.pooled_table import write_pooled
from kdbench.study.load import StudyError
from kdbench.study.planner import Planner
from kdbench.study.schema import Study
from kdbench.study.students import StudyFile, load_studies


def run_study(
    study: str | Path | Study,
    root: str | Path = ".",
    workers: int | None = None,
    device: str = "auto",
    data_dir: str | Path | None = None,
    only: Iterable[str] = (),
    seeds: Iterable[int] = (),
    changes: Mapping[str, Any] | None = None,
    tune: bool = True,
    retry: bool = True,
    reporter: ProgressReporter | None = None,
) -> Path:
    """Train what a study lacks, bring MLflow up to date, and write the report; its folder.

    A file with several students has a report for each, and the folder is that of the report in
    which they are pooled. The arguments are those of `Options`, and `root` is the folder for
    `runs/`, `mlflow.db` and `reports/`. `reporter` shows progress and the runs that failed; by
    default both are printed. A script that calls this needs `if __name__ == "__main__":` around
    its call, as all that starts processes does.

    Raises `StudyError` for a study that cannot run, `DataError` where its images are missing or
    changed, `InvalidOption`, `TeacherFailed`, and `Interrupted` (a `KeyboardInterrupt`) after
    Ctrl-C or SIGTERM: calling it again goes on.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    options = Options(
        study=study if isinstance(study, Study) else str(study),
        root=Path(root).resolve(),
        data_dir=Path(data_dir).resolve() if data_dir else None,
        workers=workers,
        device=device,
        only=tuple(only),
        seeds=tuple(seeds),
        changes=dict(changes or {}),
        tune=tune,
        retry=retry,
    )
    reporter = reporter or PrintReporter()
    name, prepared = prepare_all(options)
    keep_students(name, prepared, options)
    for each in prepared:
        outcome = train_study(each.planner, each.store, each.options, reporter)
        for run, message in outcome.failures.items():
            reporter.log(f"failed  {run}: {message}")
        publish_report(each.store, each.study, reporter, outcome.tracked)
    if len(prepared) == 1:
        return each.store.report_folder(each.study)
    publish_pooled(each.store, name, [each.study for each in prepared])
    return each.store.report_folder(name)


@dataclass(frozen=True)
class PreparedStudy:
    """One study of a file, ready to be trained."""

    options: Options
    planner: Planner
    store: Store

    @property
    def study(self) -> str:
        """The study's name."""
        return self.planner.study.name


def prepare_all(options: Options) -> tuple[str, list[PreparedStudy]]:
    """The name of the study file that `options` choose, and its studies. Raises as `prepare` and
    `single_studies` do, before any of them trains."""
    name, chosen = single_studies(options)
    return name, [PreparedStudy(each, *prepare(each)) for each in chosen]


def keep_students(name: str, prepared: Sequence[PreparedStudy], options: Options) -> None:
    """Write which studies the file called `name` makes, where they are those of students. With a
    choice of its students, those that ran before stay in the list. A method that is added beside
    a report has a study of its own, which is none of the file's."""
    studies, store = [each.study for each in prepared], prepared[0].store
    if options.add:
        return
    if studies == [name]:
        students_path(store, name).unlink(missing_ok=True)  # one of added methods alone
        return
    before = read_students(students_path(store, name)) if "students" in options.changes else ()
    write_students(store, name, list(dict.fromkeys((*before, *studies))))


def single_studies(options: Options) -> tuple[str, list[Options]]:
    """The name of the study file that `options` choose, and options for each of its studies.

    Raises `StudyError`, also where another study of the root has one of their names, and
    `InvalidOption` where a method is to be added to several.
    """
    if isinstance(options.study, Study):
        return options.study.name, [options]
    file = load_studies(options.study, asked_changes(options))
    if len(file.studies) > 1 and options.add:
        raise InvalidOption(
            "--with has the report of one study, and the file several: choose its student with "
            "--set 'students=[NAME]'"
        )
    if faults := list(_taken_names(Store(options.root), file)):
        raise StudyError(options.study, faults)
    return file.name, [
        replace(options, study=study, changes={}, seeds=()) for study in file.studies
    ]


def _taken_names(store: Store, file: StudyFile) -> Iterator[str]:
    """The names that stand for something else in this root."""
    path = students_path(store, file.name)
    if not file.has_students:
        if any(not _was_added(store, study) for study in read_students(path)):
            yield f"name: {store.root} has studies of several students called so; take another"
        return
    if store.plan_path(file.name).exists():
        yield f"name: {store.root} has a study '{file.name}' of one student; take another name"
    others = {
        name: other.name.removesuffix(SUFFIX)
        for other in sorted(path.parent.glob(f"*{SUFFIX}"))
        if other != path
        for name in (other.name.removesuffix(SUFFIX), *read_students(other))
    }
    own = read_students(path)
    for study in file.studies:
        if study.name in others:
            yield f"students: '{study.name}' is one of the studies of '{others[study.name]}'"
        elif study.name not in own and _student(store, study.name) not in (
            "",
            study.student.model,
        ):
            yield (
                f"students: {store.root} has a study '{study.name}' with another student; give "
                "this one another label"
            )


def _student(store: Store, study: str) -> str:
    """The student's model of a study that ran in the root; empty where none did."""
    plan = PlanFile.load_readable(store.plan_path(study))
    return plan.models.get("student", "") if plan else ""


def _was_added(store: Store, study: str) -> bool:
    """Whether a study of the root is that of a method beside a report. Earlier versions of kdbench
    listed such a study as if it were that of a student."""
    plan = PlanFile.load_readable(store.plan_path(study))
    return plan is not None and plan.taken is not None


def publish_pooled(store: Store, name: str, studies: Sequence[str]) -> PooledTable:
    """Pool the reports of the studies of a file called `name`, and write the table."""
    table = pool_settings(name, {study: load(store.report_folder(study)) for study in studies})
    write_pooled(table, store.report_folder(name), {study: f"../{study}" for study in studies})
    return table
