"""What killed processes and broken disks leave behind: found, told, and put right.

Nothing is deleted but half-written files of processes that are gone. A record that cannot
be read is moved to `runs/aside/`, whole, and the next start trains the run again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kdbench import tracking
from kdbench.records.check import check_record
from kdbench.records.files import stale_part_files
from kdbench.records.plan_file import CorruptPlan, PlanFile
from kdbench.records.readers import CorruptRecord, NewerRecord
from kdbench.records.store import RecordBusy, Store
from kdbench.tracking.client import redact


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be. `repair_stale` puts it right and says what it did;
    None where a person has to."""

    what: str
    repair_stale: Callable[[], str] | None = None


def examine(store: Store) -> Iterator[Finding]:
    """Everything that is wrong in a root; nothing is changed until a finding is mended.

    Records first: what is wrong with MLflow is seen from them.
    """
    yield from _records(store)
    yield from _parts(store)
    yield from _plans(store)
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
            f"{len(orphans)} records belong to no study as it now reads ({some}): kept, since an "
            "edit of a study file may want them again; remove their folders by hand if not"
        )


def _damaged(store: Store, run: str, faults: list[str]) -> Finding:
    what = f"record {run}: {'; '.join(faults)}"
    try:
        _ = store.record(run).result
    except NewerRecord:
        return Finding(what)
    except CorruptRecord:
        pass

    return Finding(what, partial(_set_aside, store, run, "; ".join(faults)))


def _set_aside(store: Store, run: str, why: str) -> str:
    try:
        return f"moved to {store.quarantine(run, why)}; the next start trains it again"
    except RecordBusy:
        return "left alone: a process is writing it just now"


def _parts(store: Store) -> Iterator[Finding]:
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
            yield Finding(what, partial(_put_by, path, f"`kdbench study {study}` writes it anew"))


def _put_by(path: Path, then: str) -> str:
    target = path.with_name(f"{path.name}.damaged")
    path.rename(target)
    return f"moved to {target}; {then}"


def _mlflow(store: Store, study: str) -> Iterator[Finding]:
    uri = tracking.tracking_uri(store.root)
    try:
        found = tracking.stale_runs(store, study, uri)
    except LookupError:
        return
    except Exception as error:
        yield Finding(f"MLflow's store of {study} cannot be asked: {redact(str(error), uri)}")
        return
    for item in found:
        what = f"MLflow, {study}, {item.name}: {item.text}"
        act = partial(_mend, store, study, uri, item) if item.repairable else None
        yield Finding(what, act)


def _mend(store: Store, study: str, uri: str, item: tracking.StaleRun) -> str:
    done = tracking.repair_stale(store, study, uri, [item])
    return "mended" if done else "left alone: it has changed meanwhile"
