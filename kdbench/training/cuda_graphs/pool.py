"""The captured steps of a cohort, for each size of batch that comes."""

from collections.abc import Callable, Sequence

from kdbench.training.batches import SharedBatch
from kdbench.training.cuda_graphs.graph import CaptureFailed
from kdbench.training.cuda_graphs.step import GraphedStep
from kdbench.training.memory import out_of_memory, release
from kdbench.training.run import TrainingRun, step_each


class GraphPool:
    """Captures the steps of a cohort at its first batch of each size, and replays them.

    Once a capture has failed, all steps are eager, those of later cohorts too: the graphs of
    other runs may be damaged.
    """

    def __init__(self) -> None:
        self._steps: dict[int, GraphedStep] = {}
        self._failed: str | None = None

    def step(
        self,
        batch: SharedBatch,
        runs: Sequence[TrainingRun],
        guarded: Callable[..., bool],
    ) -> list[TrainingRun]:
        """Take one step of every run; those for which it went well."""
        if self._failed is None:
            try:
                graphed = self._loaded(batch, runs)
            except CaptureFailed as error:
                self._failed = str(error)
                self.clear()
                if error.__cause__ and out_of_memory(error.__cause__):
                    raise error.__cause__ from None
            else:
                left = [run for run in runs if guarded(run.spec.id, graphed.step, run)]
                graphed.finish()
                return left
        return step_each(batch, runs, guarded)

    def clear(self) -> None:
        """Free all graphs, as the runs that they were captured for have ended."""
        if self._steps:
            self._steps.clear()
            release()

    def why_not_captured(self, run: TrainingRun) -> str | None:
        """Why a run's steps could not be captured, or None."""
        if self._failed is not None:
            return self._failed
        reasons = (step.why_not_captured.get(run.spec.id) for step in self._steps.values())
        return next((reason for reason in reasons if reason), None)

    def _loaded(self, batch: SharedBatch, runs: Sequence[TrainingRun]) -> GraphedStep:
        """The captured steps for this size of batch, with the batch loaded."""
        size = len(batch)
        if size not in self._steps:
            self._steps[size] = GraphedStep(runs, batch)
        self._steps[size].load(batch)
        return self._steps[size]
