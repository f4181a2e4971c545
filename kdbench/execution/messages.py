"""What the driver does with each message of a worker: it writes the records."""

import errno
import shutil
from pathlib import Path
from typing import Any

from kdbench.execution.costs import CostMeasurement
from kdbench.execution.engines.protocol import CostsMeasured, Notice, Scored, WorkerLost
from kdbench.execution.errors import TeacherFailed
from kdbench.execution.grouping import Scheduler
from kdbench.execution.signals import StopRequest
from kdbench.execution.state import StudyState
from kdbench.records.files import DiskFull
from kdbench.records.provenance import stamp
from kdbench.study.plan import Node
from kdbench.training.events import Epochs, Failed, Finished
from kdbench.training.packages import packages_of


class MessageHandler:
    """Writes what workers send into the records, and notes it in the study's state."""

    def __init__(
        self,
        state: StudyState,
        scheduler: Scheduler,
        costs: CostMeasurement,
        stop: StopRequest,
        device: str,
    ) -> None:
        self.state, self.scheduler, self.costs = state, scheduler, costs
        self.stop, self.device = stop, device
        #: The last epochs of a run, which are written together with its result.
        self._last_epochs: dict[str, Epochs] = {}

    def handle(self, message: Any) -> None:
        """Act on one message. Raises `DiskFull`, and `TeacherFailed`."""
        state = self.state
        if isinstance(message, CostsMeasured):
            self.costs.finish(message)
        elif isinstance(message, WorkerLost):
            self._give_back(message)
        elif isinstance(message, Notice):
            state.reporter.log(message.text)
        elif isinstance(message, Failed) and message.id not in state.training | state.scoring:
            self.costs.fail(message.error)  # its runs are finished, and stay so
        elif isinstance(message, Epochs | Finished | Failed | Scored):
            node = state.plan.nodes[message.id]
            if isinstance(message, Epochs):
                if message.rows and message.checkpoint is None:
                    # The run's last ones: written together with its result, which follows, so
                    # that no record has more epochs than its checkpoint.
                    self._last_epochs[message.id] = message
                    return
                self._add_epochs(message)
            elif isinstance(message, Finished):
                self._finish(message, node)
            elif isinstance(message, Failed):
                self._fail(message, node)
            else:
                self._score(message)
            state.tracker.touch(message.id, node.listing)

    def _add_epochs(self, message: Epochs) -> None:
        self.state.store.record(message.id).add_epochs(message.rows, message.checkpoint)
        if self.stop.requested:  # what the worker sends as it stops
            self.state.training.discard(message.id)

    def _finish(self, message: Finished, node: Node) -> None:
        record = self.state.store.record(message.id)
        if last := self._last_epochs.pop(message.id, None):
            record.add_epochs(last.rows, None)
        result = stamp(self.device) | packages_of(node.spec) | message.result
        record.finish(result, message.weights)
        self.state.end(node)
        self._check_teacher(node)
        if message.result["state"] == "diverged":
            epoch = message.result["diverged_epoch"]
            self.state.reporter.log(f"{node.listing.name} diverged in epoch {epoch}")

    def _fail(self, message: Failed, node: Node) -> None:
        if message.error.get("errno") == errno.ENOSPC:
            # Not the run's fault; and the next one would fail like it.
            raise DiskFull(errno.ENOSPC, no_space_message(self.state.store.root))
        self.state.fail(node, message.error)
        self._check_teacher(node)
        self.state.reporter.log(f"{node.listing.name} failed: {message.error['message']}")

    def _score(self, message: Scored) -> None:
        record = self.state.store.record(message.id)
        if record.test is None:
            record.score(message.test, message.arrays)
        self.state.scoring.discard(message.id)
        self.state.locks.release(message.id)

    def _give_back(self, message: WorkerLost) -> None:
        """Have the runs of a lost worker go on elsewhere, in smaller cohorts where it says so."""
        state, size = self.state, message.at_a_time
        how = f"{size} at a time" if size else "elsewhere"
        if not self.stop.requested:
            state.reporter.log(f"{message.message}; its {len(message.specs)} runs go on {how}")
        if self.costs.running:
            self.costs.give_up()
        for spec in message.specs:
            state.scoring.discard(spec.id)
            if spec.id in state.training and size:
                self.scheduler.limit(spec.id, size)
            state.give_up(spec.id)

    def _check_teacher(self, node: Node) -> None:
        if node.listing.kind == "teacher":
            check_teachers(self.state)


def check_teachers(state: StudyState) -> None:
    """Raise `TeacherFailed` if a teacher of the plan has diverged or failed."""
    for node in state.plan.nodes.values():
        if node.listing.kind != "teacher":
            continue
        result = state.store.record(node.id).result
        recipe = node.spec.recipe
        if result and result["state"] == "diverged":
            other = "" if recipe.precision == "fp32" else ", or take precision: fp32,"
            raise TeacherFailed(
                f"the {node.listing.name} (run {node.id}) diverged in epoch "
                f"{result['diverged_epoch']}: its loss is not finite. Nothing can be "
                f"distilled from it. Lower recipe.lr (now {recipe.lr:g}){other} and start again."
            )
        if node.id in state.failed:
            raise TeacherFailed(
                f"the {node.listing.name} (run {node.id}) failed: {state.failed[node.id]}"
            )


def no_space_message(root: Path) -> str:
    """What to do about a full disk."""
    free = shutil.disk_usage(root).free / 1e6
    return (
        f"the disk is full ({free:.1f} MB free); make room and give the same command again, "
        "which goes on where this one stopped"
    )
