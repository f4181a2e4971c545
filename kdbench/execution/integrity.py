"""What a study does about damaged files before it starts, and what it says of them after."""

from collections.abc import Iterator

from kdbench.execution.protocols import ProgressReporter
from kdbench.records.check import check_record
from kdbench.records.costs import CorruptCosts, read_costs
from kdbench.records.files import set_aside
from kdbench.records.lineage import learners, outdated, outdated_sentence
from kdbench.records.plan_file import CorruptPlan, PlanFile
from kdbench.records.readers import CorruptRecord, OtherFormat
from kdbench.records.store import RecordBusy, Store
from kdbench.study.planner import Planner


def set_damaged_aside(planner: Planner, store: Store, reporter: ProgressReporter) -> None:
    """Move what is damaged of a study out of the way, so that it is made again: records to
    quarantine, its plan and its costs to another name. Every file of the study's records is read.

    Runs that learned from a damaged one stay: its weights are verified whenever they are read,
    so that they learned from it before it was damaged. Raises `OtherFormat` for a record of
    another version of kdbench.
    """
    plan, costs = store.plan_path(planner.study.name), store.costs_path(planner.study.name)
    try:
        PlanFile.load(plan)
    except CorruptPlan as error:
        reporter.log(f"{error} It is {set_aside(plan)} now, and written anew.")
    try:
        read_costs(costs)
    except CorruptCosts as error:
        reporter.log(f"{error} They are {set_aside(costs)} now, and measured again.")
    done: set[str] = set()
    while damaged := dict(_damaged(planner, store, done)):
        for run, why in damaged.items():
            done.add(run)
            _quarantine(planner, store, run, why, reporter)


def _damaged(planner: Planner, store: Store, done: set[str]) -> Iterator[tuple[str, str]]:
    """The damaged records of the plan that are not in `done`, and what is wrong with each. A
    result that cannot be read hides the rest of the plan, so it comes alone."""
    try:
        nodes = planner.plan().nodes
    except OtherFormat:
        raise
    except CorruptRecord as error:
        run = error.path.parent.name
        if run in done:  # another process has it
            raise
        yield run, f"{error.path.name}: {error.why}"
        return
    for run in nodes.keys() - done:
        done.add(run)
        if faults := check_record(store.record(run)):
            yield run, "; ".join(faults)


def _quarantine(
    planner: Planner, store: Store, run: str, why: str, reporter: ProgressReporter
) -> None:
    learned = len(learners(store, store.ids()).get(run, ()))
    try:
        place = store.quarantine(run, why)
    except (FileNotFoundError, RecordBusy):  # another process was faster, or trains it
        return
    planner.graph.forget(run)
    kept = f" {learned} finished runs learned from it before that, and stay." if learned else ""
    reporter.log(f"run {run} is damaged ({why}): moved to {place} and trained again.{kept}")


def report_outdated(planner: Planner, store: Store, reporter: ProgressReporter) -> None:
    """Name the finished runs of a study that learned from other weights than there are now."""
    nodes = planner.plan().nodes
    for source, runs in outdated(store, nodes).items():
        names = [nodes[run].listing.name for run in runs]
        reporter.log(outdated_sentence(source, names) + ".")
