"""Find and repair what killed processes leave in MLflow: for `kdbench doctor`."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench.records import summary
from kdbench.records.store import Record, Store
from kdbench.tracking import payload
from kdbench.tracking.client import client, close_connections, tracking_uri
from kdbench.tracking.database import damage, is_missing, move_aside, sqlite_path
from kdbench.tracking.experiment import (
    LOCK_TIMEOUT,
    StudyExperiment,
    all_runs,
    find_experiment,
    preference,
    record_lock,
    root_lock,
)
from kdbench.tracking.failures import may_pass
from kdbench.tracking.known import invalidate
from kdbench.tracking.sync import is_busy, sync_run, sync_study

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class StaleRun:
    """An MLflow run that is not as it should be.

    `trouble` is `interrupted` (shown as running, and no process trains it), `open` (a parent
    run or the study's own that was never ended), `duplicate` (a second run of one record or
    group) or `orphan` (its record is gone). `repairable`: `repair_stale` repairs it.
    """

    trouble: str
    run: str
    name: str
    id: str | None
    repairable: bool
    text: str


def broken_database(store: Store) -> tuple[Path, str] | None:
    """The MLflow database of this root and what is wrong with it, where it cannot be read or
    MLflow refuses it; None where nothing is wrong, or where another store is used."""
    uri, path = tracking_uri(store.root), store.root.resolve() / "mlflow.db"
    if sqlite_path(uri) != path or is_missing(path):
        return None
    if fault := damage(path):
        return path, fault
    try:
        client(uri).search_experiments(max_results=1)
    except Exception as error:
        if not may_pass(error):
            return path, " ".join(str(error).split())[:300]
    return None


def rebuild_database(store: Store, path: Path, studies: Iterable[str]) -> Path:
    """Move a damaged database aside and write a new one from the records; where the old one is
    now. Raises what `sync_study` raises."""
    uri = tracking_uri(store.root)
    close_connections(uri)
    with root_lock(store.root):
        aside = move_aside(path)
    for study in studies:
        sync_study(store, study, uri)
    return aside


def stale_runs(store: Store, study: str, uri: str) -> list[StaleRun]:
    """The runs of the study's experiment that are not as they should be; changes nothing.

    Raises `UnknownExperiment`, and what MLflow raises.
    """
    client, experiment = find_experiment(study, uri)
    runs = sorted(all_runs(client, experiment), key=preference)
    by_subject: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        by_subject[subject_of(run)].append(run)
    ids = [name for kind, name in by_subject if kind == "id"]
    busy = {record.id: is_busy(record) for record in store.records(ids)}
    parents = {run.info.run_id: run.data.tags.get("mlflow.parentRunId") for run in runs}
    active = {parents[run.info.run_id] for run in runs if busy.get(subject_of(run)[1])}
    stale: list[StaleRun] = []
    for (kind, name), same in by_subject.items():
        if kind == "id":
            stale += _of_record(store.record(name), same, busy[name])
        elif kind in ("group", "study"):
            stale += _of_parent(same, active, set(parents.values()))
    return stale


def repair_stale(store: Store, study: str, uri: str, stale: Sequence[StaleRun]) -> list[StaleRun]:
    """Repair what `stale_runs` has listed; those of them that were repaired.

    Interrupted runs are brought up to date with their records, open ones are ended, duplicates
    are deleted the way MLflow's pages do it, so that they can be restored there. What has
    changed since it was listed is left alone. Raises what `stale_runs` raises.
    """
    now = {item.run: item for item in stale_runs(store, study, uri)}
    unchanged = [item for item in stale if item.repairable and now.get(item.run) == item]
    experiment = StudyExperiment(store, study, uri, patience=LOCK_TIMEOUT)
    experiment.open()
    # A sync may move the children of a duplicate group to the other, so it comes first.
    for item in sorted(unchanged, key=lambda item: item.trouble != "interrupted"):
        if item.trouble == "duplicate":
            experiment.client.delete_run(item.run)
        elif item.trouble == "open":
            experiment.client.set_terminated(item.run, "FINISHED")
        else:
            _end_interrupted(experiment, item)
    return unchanged


def end_dropped_runs(experiment: StudyExperiment) -> None:
    """End the runs that MLflow shows as running, that an edit of the study has dropped, and that
    no process trains. Raises what MLflow raises."""
    planned = experiment.plan.listing if experiment.plan else {}
    for run_id, run in list(experiment.runs.items()):
        if run.info.status != "RUNNING" or run_id in planned:
            continue
        record = experiment.store.record(run_id)
        if record.spec() is not None and not is_busy(record):
            _end_dropped(experiment, record, run.info.run_id)


def _end_interrupted(experiment: StudyExperiment, item: StaleRun) -> None:
    """Bring an interrupted run up to date with its record."""
    record = experiment.store.record(str(item.id))
    planned = experiment.plan.listing.get(record.id) if experiment.plan else None
    if planned is None:
        _end_dropped(experiment, record, item.run)
        return
    invalidate(experiment, record)
    sync_run(experiment, record.id, planned, live=is_busy(record))


def _end_dropped(experiment: StudyExperiment, record: Record, run: str) -> None:
    """End a run that the study has no more: nothing but its state is known."""
    with record_lock(record, experiment.patience):
        state, status = summary.state(record, live=False)
        experiment.client.set_tag(run, "kdbench.state", state)
        experiment.client.set_terminated(run, status, payload.end_of(record.result))


def subject_of(run: "Run") -> tuple[str, str]:
    """What a run is about: (`id`, a record's), (`group`, its name), (`study`, ``) or foreign."""
    tags = run.data.tags
    if "kdbench.id" in tags:
        return "id", tags["kdbench.id"]
    if "kdbench.group" in tags:
        return "group", tags["kdbench.group"]
    if tags.get("kdbench.kind") == "study":
        return "study", ""
    return "foreign", run.info.run_id


def _of_record(record: Record, same: Sequence["Run"], busy: bool) -> list[StaleRun]:
    """What is wrong with the runs of one record, the one to keep being first."""
    if not (record.folder / "spec.json").exists():
        text = "its record is not in this root: delete it in MLflow if that is meant"
        return [_stale("orphan", run, False, text) for run in same]
    stale = []
    for run in same[1:]:
        finished = run.info.status == "FINISHED"
        text = f"run {same[0].info.run_id} is for the same record"
        if finished:
            text += "; both are finished, and reports take that one"
        elif busy:
            text += ", which is being trained: look again later"
        stale.append(_stale("duplicate", run, not (finished or busy), text))
    if same[0].info.status == "RUNNING" and not busy:
        text = "MLflow shows it as running, and no process trains it"
        stale.append(_stale("interrupted", same[0], True, text))
    return stale


def _of_parent(same: Sequence["Run"], active: set[Any], parents: set[Any]) -> list[StaleRun]:
    """What is wrong with the runs of a group, or with the study's own.

    `parents` have runs below them, `active` ones a run that is being trained.
    """
    stale = []
    for run in same[1:]:
        used = run.info.run_id in parents
        text = f"run {same[0].info.run_id} is for the same group"
        text += "; some runs are below this one, until `kdbench sync`" if used else ""
        repairable = not used and run.info.status != "FINISHED"
        stale.append(_stale("duplicate", run, repairable, text))
    # A duplicate that has runs below it is kept for their sake, and ended like the first.
    for run in same:
        deleted = any(other.run == run.info.run_id and other.repairable for other in stale)
        if run.info.status == "RUNNING" and run.info.run_id not in active and not deleted:
            text = "MLflow shows it as running, and no run below it is being trained"
            stale.append(_stale("open", run, True, text))
    return stale


def _stale(trouble: str, run: "Run", repairable: bool, text: str) -> StaleRun:
    info, record_id = run.info, run.data.tags.get("kdbench.id")
    name = info.run_name or info.run_id
    return StaleRun(trouble, info.run_id, name, record_id, repairable, text)
