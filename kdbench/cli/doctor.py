"""Find and repair what killed processes and broken disks leave behind.

Only half-written files of processes that are gone are deleted. A record that cannot be read
is moved to `runs/quarantine/`, whole, and the next start trains the run again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kdbench import tracking
from kdbench.records.check import check_record
from kdbench.records.files import stale_part_files
from kdbench.records.plan_file import CorruptPlan, PlanFile
from kdbench.records.readers import CorruptRecord, OtherFormat
from kdbench.records.store import RecordBusy, Store


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be. `repair` repairs it and returns what it did; None
    where a person has to."""

    what: str
    repair: Callable[[], str] | None = None


def examine(store: Store) -> Iterator[Finding]:
    """Everything that is wrong in a root; nothing is changed until a finding is repaired.

    Records come first: MLflow is compared with them.
    """
    yield from _records(store)
    yield from _part_files(store)
    yield from _plans(store)
    if broken := tracking.broken_database(store):
        path, fault = broken
        what = f"the MLflow database {path} cannot be used: {fault}"
        yield Finding(what, partial(_rebuild_database, store, path))
        if tracking.broken_database(store):
            return
    for study in studies(store):
        yield from _mlflow(store, study)


def studies(store: Store) -> list[str]:
    """The studies that have run in this root."""
    folder = store.root / "runs" / "plans"
    return sorted(p.stem for p in folder.glob("*.json") if not p.name.endswith(".cost.json"))


def _records(store: Store) -> Iterator[Finding]:
    planned: set[str] | None = set()
    for study in studies(store):
        plan = _plan(store, study)
        planned = None if plan is None or planned is None else planned | set(plan.listing)
    orphans = []
    for run in store.ids():
        faults = check_record(store.record(run))
        if faults:
            yield _damaged(store, run, faults)
        elif planned is not None and run not in planned:
            orphans.append(run)
    if orphans:
        some = ", ".join(orphans[:4]) + (", ..." if len(orphans) > 4 else "")
        yield Finding(
            f"{len(orphans)} records belong to no study as it is now ({some}): kept, since an "
            "edit of a study file may want them again; remove their folders by hand if not"
        )


def _damaged(store: Store, run: str, faults: list[str]) -> Finding:
    what = f"record {run}: {'; '.join(faults)}"
    try:
        _ = store.record(run).result, store.record(run).spec()
    except OtherFormat:
        return Finding(what)
    except CorruptRecord:
        pass
    return Finding(what, partial(_quarantine, store, run, "; ".join(faults)))


def _quarantine(store: Store, run: str, why: str) -> str:
    try:
        return f"moved to {store.quarantine(run, why)}; the next start trains it again"
    except RecordBusy:
        return "left alone: a process is writing it just now"
    except CorruptRecord as error:
        return f"left alone: {error.path}: {error.why}; remove the link by hand"


def _part_files(store: Store) -> Iterator[Finding]:
    for part in stale_part_files(store.root):
        what = f"{part} was left half-written by a process that is gone"
        yield Finding(what, partial(_remove, part))


def _remove(part: Path) -> str:
    part.unlink(missing_ok=True)
    return "removed"


def _plan(store: Store, study: str) -> PlanFile | None:
    try:
        return PlanFile.load(store.plan_path(study))
    except (OSError, CorruptPlan):
        return None


def _plans(store: Store) -> Iterator[Finding]:
    for study in studies(store):
        if _plan(store, study) is None:
            path = store.plan_path(study)
            what = f"the plan {path} cannot be read"
            yield Finding(
                what, partial(_rename_damaged, path, f"`kdbench study {study}` writes it anew")
            )


def _rename_damaged(path: Path, advice: str) -> str:
    target = path.with_name(f"{path.name}.damaged")
    path.rename(target)
    return f"moved to {target}; {advice}"


def _rebuild_database(store: Store, path: Path) -> str:
    aside = tracking.rebuild_database(store, path, studies(store))
    return f"moved to {aside}, and a new one was written from the records"


def _mlflow(store: Store, study: str) -> Iterator[Finding]:
    uri = tracking.tracking_uri(store.root)
    try:
        stale = tracking.stale_runs(store, study, uri)
    except LookupError:
        return
    except Exception as error:
        yield Finding(f"MLflow's store of {study} cannot be read: {error}")
        return
    for item in stale:
        what = f"MLflow, {study}, {item.name}: {item.text}"
        repair = partial(_repair_run, store, study, uri, item) if item.repairable else None
        yield Finding(what, repair)


def _repair_run(store: Store, study: str, uri: str, item: tracking.StaleRun) -> str:
    repaired = tracking.repair_stale(store, study, uri, [item])
    return "repaired" if repaired else "left alone: it has changed meanwhile"
