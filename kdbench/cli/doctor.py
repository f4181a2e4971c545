"""Find and repair what killed processes and broken disks leave behind.

Only half-written files of processes that are gone and damaged cached outputs are deleted. A
damaged record is moved to `runs/quarantine/`, whole, and the next start trains the run again;
anything else that is damaged, or stands in the place of something else, is renamed.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kdbench import tracking
from kdbench.cli.app import UsageError
from kdbench.records import galleries, profiles
from kdbench.records.check import check_record
from kdbench.records.checksummed import damaged_files
from kdbench.records.costs import CorruptCosts, read_costs
from kdbench.records.files import set_aside, stale_part_files
from kdbench.records.layout import Misplaced, misplaced
from kdbench.records.lineage import learners, outdated, outdated_sentence
from kdbench.records.plan_file import PlanFile
from kdbench.records.readers import CorruptRecord, OtherFormat, read_object
from kdbench.records.store import RecordBusy, Store
from kdbench.records.students import studies

#: The folders in `runs/` that hold no record.
PARTS = ("plans", "profiles", "galleries", "output_cache")


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be. `repair` repairs it and returns what it did; None
    where a person has to."""

    what: str
    repair: Callable[[], str] | None = None


def require_root(store: Store) -> None:
    """Raise `UsageError` where kdbench has left nothing: a folder's name was misspelt."""
    if not any(os.path.lexists(store.root / name) for name in ("runs", "mlflow.db", "reports")):
        raise UsageError(
            f"{store.root} holds nothing of kdbench: no runs/, no mlflow.db and no reports/; "
            "--root names another folder"
        )


def examine(store: Store) -> Iterator[Finding]:
    """Everything that is wrong in a root; nothing is changed until a finding is repaired.

    What is of the wrong kind comes first, since nothing can be read below it, and records
    before MLflow, which is compared with them.
    """
    yield from _misplaced(store)
    yield from _records(store)
    yield from _part_files(store)
    yield from _output_cache(store)
    yield from _plans(store)
    yield from _profiles_and_galleries(store)
    if broken := tracking.broken_database(store):
        path, fault = broken
        what = f"the MLflow database {path} cannot be used: {fault}"
        yield Finding(what, partial(_rebuild_database, store, path))
        if tracking.broken_database(store):
            return
    for study in studies(store):
        yield from _mlflow(store, study)


def _misplaced(store: Store) -> Iterator[Finding]:
    """Things of the wrong kind, those in records left out."""
    runs = store.root / "runs"
    for found in misplaced(store.root):
        if found.path.parent.parent != runs or found.path.parent.name in PARTS:
            yield _moved(found)


def _moved(found: Misplaced) -> Finding:
    return Finding(f"{found.path} {found.why}", partial(_set_aside, found.path))


def _set_aside(path: Path, advice: str = "") -> str:
    return f"moved to {set_aside(path)}{advice}"


def _records(store: Store) -> Iterator[Finding]:
    inside: dict[str, list[Misplaced]] = defaultdict(list)
    for found in misplaced(store.root, copies=False):
        inside[found.path.parent.name].append(found)
    planned: set[str] | None = set()
    for study in studies(store):
        plan = PlanFile.load_readable(store.plan_path(study))
        planned = None if plan is None or planned is None else planned | set(plan.listing)
    orphans = []
    for run in store.ids():
        faults = check_record(store.record(run))
        if faults:
            yield _damaged(store, run, faults)
            continue
        yield from map(_moved, inside[run])
        yield from _mlflow_file(store, run)
        if planned is not None and run not in planned:
            orphans.append(run)
    if orphans:
        some = ", ".join(orphans[:4]) + (", ..." if len(orphans) > 4 else "")
        yield Finding(
            f"{len(orphans)} records belong to no study as it is now ({some}): kept, since an "
            "edit of a study file may want them again; remove their folders by hand if not"
        )
    for source, runs in outdated(store, store.ids()).items():
        yield Finding(outdated_sentence(source, runs))


def _damaged(store: Store, run: str, faults: list[str]) -> Finding:
    what = f"record {run}: {'; '.join(faults)}"
    try:
        _ = store.record(run).result, store.record(run).spec()
    except OtherFormat:
        return Finding(what)
    except CorruptRecord:
        pass
    if learned := learners(store, store.ids()).get(run):
        what += (
            f". {len(learned)} finished runs learned from it: before it was damaged, since damaged "
            "weights are never read, and so they stay as they are"
        )
    return Finding(what, partial(_quarantine, store, run, "; ".join(faults)))


def _quarantine(store: Store, run: str, why: str) -> str:
    try:
        return f"moved to {store.quarantine(run, why)}; the next start trains it again"
    except RecordBusy:
        return "left alone: a process is writing it just now"
    except CorruptRecord as error:
        return f"left alone: {error.path}: {error.why}; remove the link by hand"


def _mlflow_file(store: Store, run: str) -> Iterator[Finding]:
    path = store.record(run).folder / "mlflow.json"
    if not path.is_file():
        return
    try:
        known = read_object(path) or {}
        why = "" if all(isinstance(state, dict) for state in known.values()) else "no object in it"
    except CorruptRecord as error:
        why = error.why
    if why:
        advice = "; MLflow is asked for what it holds"
        yield Finding(f"{path} cannot be read: {why}", partial(_set_aside, path, advice))


def _part_files(store: Store) -> Iterator[Finding]:
    for part in stale_part_files(store.root):
        what = f"{part} was left half-written by a process that is gone"
        yield Finding(what, partial(_remove, part))


def _output_cache(store: Store) -> Iterator[Finding]:
    for path in damaged_files(store.output_cache):
        what = f"{path} is not what was written: the checksum at its end differs"
        yield Finding(what, partial(_remove, path, "; it is made again when it is needed"))


def _remove(path: Path, advice: str = "") -> str:
    path.unlink(missing_ok=True)
    return f"removed{advice}"


def _plans(store: Store) -> Iterator[Finding]:
    for study in studies(store):
        plan, costs = store.plan_path(study), store.costs_path(study)
        if plan.is_file() and PlanFile.load_readable(plan) is None:
            advice = f"; `kdbench study {study}` writes it anew"
            yield Finding(f"the plan {plan} cannot be read", partial(_set_aside, plan, advice))
        try:
            read_costs(costs)
        except CorruptCosts as error:
            if costs.is_file():
                advice = f"; `kdbench study {study}` measures them again"
                what = f"the measured costs {costs} cannot be read: {error.why}"
                yield Finding(what, partial(_set_aside, costs, advice))


def _profiles_and_galleries(store: Store) -> Iterator[Finding]:
    kept: tuple[tuple[str, Callable[[Path], object], str, str, str], ...] = (
        (profiles.FOLDER, profiles.read_profile, "the profile", "profile", "measures it"),
        (galleries.FOLDER, galleries.read_gallery, "the test images", "study", "chooses them"),
    )
    for folder, read, what, command, does in kept:
        for path in sorted((store.root / folder).glob("*.json")):
            try:
                read(path)
            except (profiles.CorruptProfile, galleries.CorruptGallery) as error:
                advice = f"; `kdbench {command} {path.stem}` {does} again"
                fault = f"{what} {path} cannot be read: {error.why}"
                yield Finding(fault, partial(_set_aside, path, advice))


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
