"""The one loop. It trains a cohort: runs of one setting and one seed, in lockstep.

All members see the same batches; every frozen network is asked once a batch. Nothing
else is shared: each member has its own networks, optimiser and random streams, so its
numbers do not depend on its company. The loop knows roles and sources, never a
method's name.
"""

import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

from kdbench.cohort import Bench, Job, epoch_batches, training_positions
from kdbench.events import Event, Failed
from kdbench.member import Member

T = TypeVar("T")


def train_cohort(
    jobs: Sequence[Job],
    bench: Bench,
    emit: Callable[[Event], None],
    stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Train runs that share data, student model, recipe, seed and lineage.

    Says what happens through `emit`. When `stopping` turns true the step is finished,
    every member's last whole epoch is said with its checkpoint, and the cohort ends.
    Runs whose checkpoints are of different ages, as a driver that was killed may leave
    them, are trained one age after the other.
    """
    members: list[Member] = []
    for job in jobs:
        _guarded(job.spec.id, emit, lambda each: members.append(Member(each, bench)), job)
    ages: dict[int, list[Member]] = {}
    for member in members:
        ages.setdefault(member.epoch, []).append(member)
    for mates in ages.values():
        _lockstep(mates, bench, emit, stopping)


def _lockstep(
    members: list[Member],
    bench: Bench,
    emit: Callable[[Event], None],
    stopping: Callable[[], bool],
) -> None:
    """Train members that have done the same number of epochs."""
    spec = members[0].spec
    fit, held_out = training_positions(spec, bench)
    kept = {m.spec.id: m.checkpoint() if m.epoch else None for m in members}

    def end(member: Member) -> None:
        result = member.finished("done" if member.sound else "diverged")
        emit(member.epochs_event(None))
        emit(result)

    for epoch in range(members[0].epoch, spec.recipe.epochs):
        if not members:
            return
        batches = epoch_batches(bench, fit, epoch, members)
        for member in members:
            member.begin_epoch(len(batches))
        for batch in batches:
            if stopping():
                for member in members:
                    emit(member.epochs_event(kept[member.spec.id]))
                return
            members = [m for m in members if _guarded(m.spec.id, emit, m.step, batch)]
            batch.release()
        members = [m for m in members if _guarded(m.spec.id, emit, m.end_epoch, held_out)]
        for member in members:
            if not member.sound:
                _guarded(member.spec.id, emit, end, member)
                continue
            kept[member.spec.id] = member.checkpoint()
            if member.due() and member.epoch < spec.recipe.epochs:
                emit(member.epochs_event(kept[member.spec.id]))
        members = [m for m in members if m.sound]
    for member in members:
        _guarded(member.spec.id, emit, end, member)


def _guarded(
    run_id: str, emit: Callable[[Event], None], act: Callable[[T], object], what: T
) -> bool:
    """Whether `act(what)` went well; if not, the run `run_id` has failed, and only that run."""
    try:
        act(what)
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        emit(Failed(run_id, {"message": f"{type(error).__name__}: {error}", "traceback": text}))
        return False
    return True
