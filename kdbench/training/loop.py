"""The one loop. It trains a cohort: runs of one setting and one seed, in lockstep.

All runs see the same batches; every teacher network is asked once a batch. Nothing else is
shared: each run has its own networks, optimiser and random streams, so its numbers do not
depend on the other runs. The loop knows roles and sources, never a method's name.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from kdbench.training.context import TrainingContext, TrainingJob
from kdbench.training.cuda_graphs.pool import GraphPool
from kdbench.training.events import Event, Failed, cause
from kdbench.training.examples import examples_of
from kdbench.training.memory import CohortTooLarge, out_of_memory
from kdbench.training.run import TrainingRun, batches_for, step_each
from kdbench.training.state import pack_state

T = TypeVar("T")
#: The last whole epoch of a run: a checkpoint, or a state that is packed when it is needed.
Kept = bytes | Mapping[str, Any] | None


def train_cohort(
    jobs: Sequence[TrainingJob],
    context: TrainingContext,
    emit: Callable[[Event], None],
    stopping: Callable[[], bool] = lambda: False,
    graphs: GraphPool | None = None,
) -> None:
    """Train runs that share data, student model, recipe, seed and lineage.

    Reports what happens through `emit`. When `stopping` turns true, the step is finished,
    every run's last whole epoch is reported with its checkpoint, and the cohort ends. Runs
    whose checkpoints are of different ages, as a driver that was killed may leave them, are
    trained one age after the other, and runs that are shown images without labels after those
    that are not. With `graphs` each run's step is captured as a CUDA graph and replayed.

    Raises `CohortTooLarge` where memory runs out, after reporting every unfinished run's last
    whole epoch.
    """
    #: By run that has not ended.
    kept: dict[str, Kept] = {job.spec.id: job.checkpoint for job in jobs}
    runs: list[TrainingRun] = []

    def guarded(run_id: str, act: Callable[[T], object], argument: T) -> bool:
        """Whether `act(argument)` went well; if not, the run has failed, and only that run."""
        try:
            act(argument)
        except Exception as error:
            if out_of_memory(error):
                raise
            emit(Failed(run_id, cause(error)))
            del kept[run_id]
            return False
        return True

    try:
        for job in jobs:
            guarded(job.spec.id, lambda each: runs.append(TrainingRun(each, context)), job)
        groups: dict[tuple[int, bool], list[TrainingRun]] = {}
        for run in runs:
            groups.setdefault((run.history.epoch, run.shows_unlabelled), []).append(run)
        for group in groups.values():
            if graphs:
                graphs.clear()
            _lockstep(group, context, emit, stopping, graphs, kept, guarded)
    except Exception as error:
        if not out_of_memory(error):
            raise
        for run in runs:
            # Memory may have run out between the end of an epoch and the copy of its state.
            state = kept.get(run.spec.id)
            if isinstance(state, Mapping):
                run.history.forget_after(state["epoch"])
                emit(run.report(_packed(state)))
        raise CohortTooLarge({run: _packed(state) for run, state in kept.items()}) from error
    finally:
        if graphs:
            graphs.clear()


def _lockstep(
    runs: list[TrainingRun],
    context: TrainingContext,
    emit: Callable[[Event], None],
    stopping: Callable[[], bool],
    graphs: GraphPool | None,
    kept: dict[str, Kept],
    guarded: Callable[..., bool],
) -> None:
    """Train runs that have done the same number of epochs, and are shown the same images."""
    spec, first = runs[0].spec, runs[0].history.epoch
    examples = examples_of(spec, context)
    step = graphs.step if graphs else step_each

    def finish(run: TrainingRun) -> None:
        finished = run.finished()
        if graphs and (reason := graphs.why_not_captured(run)):
            finished.result["why_not_captured"] = reason
        emit(run.report(None))
        emit(finished)

    def end(run: TrainingRun) -> None:
        if guarded(run.spec.id, finish, run):
            del kept[run.spec.id]

    runs = [r for r in runs if guarded(r.spec.id, lambda each: each.prepare(stopping), r)]
    for epoch in range(first, spec.recipe.epochs):
        if not runs:
            return
        batches = batches_for(runs, context, examples, epoch)
        for run in runs:
            run.begin_epoch(len(batches))
        for batch in batches:
            if stopping():
                for run in runs:
                    emit(run.report(_packed(kept[run.spec.id])))
                return
            runs = step(batch, runs, guarded)
        runs = [r for r in runs if guarded(r.spec.id, r.end_epoch, examples.held_out)]
        for run in runs:
            if not run.history.finite:
                end(run)
                continue
            if run.history.epoch < spec.recipe.epochs:  # else its result follows
                kept[run.spec.id] = run.state()
                if run.history.checkpoint_due():
                    emit(run.report(_packed(kept[run.spec.id])))
        runs = [r for r in runs if r.history.finite]
    for run in runs:
        end(run)


def _packed(kept: Kept) -> bytes | None:
    return pack_state(kept) if isinstance(kept, Mapping) else kept
