"""The one loop. It trains a cohort: runs of one setting and one seed, in lockstep.

All members see the same batches; every frozen network is asked once a batch. Nothing
else is shared: each member has its own networks, optimiser and random streams, so its
numbers do not depend on its company. The loop knows roles and sources, never a
method's name.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from kdbench.training.batches import epoch_batches, training_positions
from kdbench.training.context import TrainingContext, TrainingJob
from kdbench.training.cuda_graphs.pool import GraphPool
from kdbench.training.events import Event, Failed, cause
from kdbench.training.memory import CohortTooLarge, out_of_memory
from kdbench.training.run import TrainingRun, one_by_one
from kdbench.training.state import packed

T = TypeVar("T")
Kept = bytes | Mapping[str, Any] | None


def train_cohort(
    jobs: Sequence[TrainingJob],
    bench: TrainingContext,
    emit: Callable[[Event], None],
    stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Train runs that share data, student model, recipe, seed and lineage.

    Says what happens through `emit`. When `stopping` turns true the step is finished,
    every member's last whole epoch is said with its checkpoint, and the cohort ends.
    Runs whose checkpoints are of different ages, as a driver that was killed may leave
    them, are trained one age after the other.

    Raises `CohortTooLarge` where memory runs out for several runs, after saying every
    unfinished one's last whole epoch; a run for which it runs out alone has failed.
    """
    #: The last whole epoch of every run that has not ended: a checkpoint, or a state that is
    #: packed when somebody wants it.
    kept: dict[str, Kept] = {job.spec.id: job.checkpoint for job in jobs}
    members: list[TrainingRun] = []

    def guarded(run_id: str, act: Callable[[T], object], what: T) -> bool:
        """Whether `act(what)` went well; if not, the run has failed, and only that run."""
        try:
            act(what)
        except Exception as error:
            if out_of_memory(error):
                raise
            emit(Failed(run_id, cause(error)))
            del kept[run_id]
            return False
        return True

    try:
        if bench.recorded:
            bench.captured = bench.captured or GraphPool()
            bench.captured.prepare([job.spec for job in jobs])
        for job in jobs:
            guarded(job.spec.id, lambda each: members.append(TrainingRun(each, bench)), job)
        ages: dict[int, list[TrainingRun]] = {}
        for member in members:
            ages.setdefault(member.epoch, []).append(member)
        for mates in ages.values():
            _lockstep(mates, bench, emit, stopping, kept, guarded)
    except Exception as error:
        if not out_of_memory(error):
            raise
        if len(kept) == 1:
            (alone,) = kept
            emit(Failed(alone, cause(error)))
            return
        for member in members:
            if state := _packed(kept.get(member.spec.id)):
                emit(member.epochs_event(state))
        raise CohortTooLarge({run: _packed(state) for run, state in kept.items()}) from error


def _lockstep(
    members: list[TrainingRun],
    bench: TrainingContext,
    emit: Callable[[Event], None],
    stopping: Callable[[], bool],
    kept: dict[str, Kept],
    guarded: Callable[..., bool],
) -> None:
    """Train members that have done the same number of epochs."""
    spec = members[0].spec
    fit, held_out = training_positions(spec, bench)

    captured = bench.captured
    step = captured.step if captured else one_by_one

    def finish(member: TrainingRun) -> None:
        result = member.finished("done" if member.sound else "diverged")
        if captured and (reason := captured.eager(member)):
            result.result["eager"] = reason
        emit(member.epochs_event(None))
        emit(result)

    def end(member: TrainingRun) -> None:
        if guarded(member.spec.id, finish, member):
            del kept[member.spec.id]

    members = [m for m in members if guarded(m.spec.id, lambda each: each.prepare(stopping), m)]
    if captured:
        captured.admit(members)
    first = members[0].epoch if members else spec.recipe.epochs
    for epoch in range(first, spec.recipe.epochs):
        if not members:
            return
        batches = epoch_batches(bench, fit, epoch, members)
        for member in members:
            member.begin_epoch(len(batches))
        for batch in batches:
            if stopping():
                for member in members:
                    emit(member.epochs_event(_packed(kept[member.spec.id])))
                return
            members = step(batch, members, guarded)
        members = [m for m in members if guarded(m.spec.id, m.end_epoch, held_out)]
        for member in members:
            if not member.sound:
                end(member)
                continue
            kept[member.spec.id] = member.state()
            if member.due() and member.epoch < spec.recipe.epochs:
                emit(member.epochs_event(_packed(kept[member.spec.id])))
        members = [m for m in members if m.sound]
    for member in members:
        end(member)


def _packed(kept: Kept) -> bytes | None:
    return packed(kept) if isinstance(kept, Mapping) else kept
