"""What killed processes leave in MLflow, and how it is put right: for `kdbench doctor`."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdbench.records import summary
from kdbench.records.store import Record, Store
from kdbench.tracking import experiment as find
from kdbench.tracking import payload as content
from kdbench.tracking.read import experiment
from kdbench.tracking.sync import Tracker, is_busy

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class Stale:
    """One MLflow run that is not as it should be.

    `trouble` is `interrupted` (shown as running, and nobody trains it), `open` (a run
    without work of its own that was never ended), `doubled` (a second run for one thing)
    or `orphan` (its record is gone). `mendable`: `repair_stale` does something about it.
    """

    trouble: str
    run: str
    name: str
    id: str | None
    mendable: bool
    text: str


def stale(store: Store, study: str, uri: str) -> list[Stale]:
    """Look at the study's experiment and change nothing; what `repair_stale` would put right.

    Raises `LookupError` where there is no such experiment, and what MLflow raises.
    """
    client, where = experiment(study, uri)
    runs = sorted(find.all_runs(client, where), key=find.preference)
    twins: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        twins[thing(run)].append(run)
    busy = {r.id: is_busy(r) for r in store.records(i for kind, i in twins if kind == "id")}
    above = {run.info.run_id: run.data.tags.get("mlflow.parentRunId") for run in runs}
    working = {above[run.info.run_id] for run in runs if busy.get(thing(run)[1])}
    found: list[Stale] = []
    for (kind, name), same in twins.items():
        if kind == "id":
            found += of_record(store.record(name), same, busy[name])
        elif kind in ("group", "study"):
            found += without_work(same, working, set(above.values()))
    return found


def repair_stale(store: Store, study: str, uri: str, found: Sequence[Stale]) -> list[Stale]:
    """Put right what `stale` found; those of them that were mended.

    Interrupted runs become what their records say, open ones are ended, doubled ones are
    deleted the way MLflow's pages do it, so that they can be restored there. All are
    looked at again first, and what has changed since is left alone. Raises what `stale`
    raises.
    """
    now = {item.run: item for item in stale(store, study, uri)}
    wanted = [item for item in found if item.mendable and now.get(item.run) == item]
    tracker = Tracker(store, study, uri, patience=find.PATIENCE)
    tracker.open()
    # Levelling may give children of a doubled group their parent, so that comes first.
    for item in sorted(wanted, key=lambda item: item.trouble != "interrupted"):
        if item.trouble == "doubled":
            tracker.client.delete_run(item.run)
        elif item.trouble == "open":
            tracker.client.set_terminated(item.run, "FINISHED")
        else:
            close(tracker, item)
    return wanted


def close(tracker: Tracker, item: Stale) -> None:
    """Show an interrupted run as its record is."""
    record = tracker.store.record(str(item.id))
    entry = tracker.plan.listing.get(record.id) if tracker.plan else None
    if entry is not None:
        tracker.invalidate(record)
        tracker.level(record.id, entry, live=is_busy(record))
        return
    # The study was edited and has no such run any more; nothing but the state is known.
    with find.levelling(record, tracker.patience):
        word, status = summary.state(record, live=False)
        tracker.client.set_tag(item.run, "kdbench.state", word)
        tracker.client.set_terminated(item.run, status, content.end_of(record.result))


def thing(run: "Run") -> tuple[str, str]:
    """What a run stands for: (`id`, a record's), (`group`, its name), or (`study`, ``)."""
    tags = run.data.tags
    if "kdbench.id" in tags:
        return "id", tags["kdbench.id"]
    if "kdbench.group" in tags:
        return "group", tags["kdbench.group"]
    if tags.get("kdbench.kind") == "study":
        return "study", ""
    return "foreign", run.info.run_id


def of_record(record: Record, same: Sequence["Run"], busy: bool) -> list[Stale]:
    """What is wrong with the runs for one record, the one to keep being first."""
    if not (record.folder / "spec.json").exists():
        text = "its record is not in this root: delete it in MLflow if that is meant"
        return [item("orphan", run, False, text) for run in same]
    found = []
    for run in same[1:]:
        over = run.info.status == "FINISHED"
        text = f"run {same[0].info.run_id} is for the same record"
        if over:
            text += "; both are finished, and reports take that one"
        elif busy:
            text += ", which is being trained: look again later"
        found.append(item("doubled", run, not (over or busy), text))
    if same[0].info.status == "RUNNING" and not busy:
        text = "MLflow shows it as running, and no process trains it"
        found.append(item("interrupted", same[0], True, text))
    return found


def without_work(same: Sequence["Run"], working: set[Any], parents: set[Any]) -> list[Stale]:
    """What is wrong with the runs of a group or of the study itself."""
    found = []
    for run in same[1:]:
        used = run.info.run_id in parents
        text = f"run {same[0].info.run_id} is for the same thing"
        text += "; some runs are below this one, until `kdbench sync`" if used else ""
        found.append(item("doubled", run, not used and run.info.status != "FINISHED", text))
    # A doubled one that has runs below it is kept for their sake, and ended like the first.
    for run in same:
        doubled = any(other.run == run.info.run_id and other.mendable for other in found)
        if run.info.status == "RUNNING" and run.info.run_id not in working and not doubled:
            text = "MLflow shows it as running, and no run below it is being trained"
            found.append(item("open", run, True, text))
    return found


def item(trouble: str, run: "Run", mendable: bool, text: str) -> Stale:
    """A finding about `run`."""
    info = run.info
    run_id = run.data.tags.get("kdbench.id")
    return Stale(trouble, info.run_id, info.run_name or info.run_id, run_id, mendable, text)
