"""The steps of a cohort's runs over batches of one size, as CUDA graphs.

What the runs share (images, live outputs of teacher networks) is one graph; each run's step is
another, on a stream of its own after it. What changes from step to step is read from tensors
that stay where they are: positions, views, progress, learning rate.
"""

import gc
from collections.abc import Iterable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from kdbench.methods.types import Progress
from kdbench.training.batches import SharedBatch
from kdbench.training.cuda_graphs.graph import (
    WARM_UP,
    CaptureFailed,
    CudaGraph,
    no_waiting,
    one_line,
)
from kdbench.training.memory import out_of_memory
from kdbench.training.run import TrainingRun, inputs_of, live_layers


class GraphedStep:
    """One step of every run of a cohort, over batches of one size.

    `why_not_captured` says by run id why a step could not be captured; such a run takes its
    steps one operation at a time, with the same result. Raises `CaptureFailed`.
    """

    def __init__(self, runs: Sequence[TrainingRun], batch: SharedBatch) -> None:
        self.device = batch.position.device
        self.batch = batch.copied()
        self.progress = torch.zeros(3, dtype=torch.float64, device=self.device)
        self.batch.progress = Progress(*self.progress.unbind())
        self.why_not_captured: dict[str, str] = {}
        self._inputs, self._teachers = inputs_of(runs), tuple(live_layers(runs))
        self._copy(batch)
        self._shared = CudaGraph(self.device)
        self._share()
        self._synchronise()
        self._shared.capture(self._share)
        self._shared.replay()
        self._synchronise()
        self._graphs: dict[str, CudaGraph] = {}
        for run in runs:
            self._capture(run)

    def load(self, batch: SharedBatch) -> None:
        """Take a batch: compute everything that the runs share from it."""
        self._copy(batch)
        if self._shared.stream is not None:
            self._shared.stream.wait_stream(torch.cuda.current_stream(self.device))
        self._shared.replay()
        if self._shared.stream is not None:
            self._ready = self._shared.stream.record_event()

    def step(self, run: TrainingRun) -> None:
        """Take one step of a run on the loaded batch."""
        graph = self._graphs.get(run.spec.id)
        if self.device.type == "cuda":
            stream = graph.stream if graph else torch.cuda.current_stream(self.device)
            assert stream is not None
            stream.wait_event(self._ready)
        if graph is None:
            run.step(self.batch)
            return
        graph.use_own_dropout()
        run.seed_dropout()
        graph.replay()
        run.count(self.batch)

    def finish(self) -> None:
        """Make the current stream wait for the runs' steps."""
        if self.device.type == "cuda":
            now = torch.cuda.current_stream(self.device)
            for graph in self._graphs.values():
                assert graph.stream is not None
                now.wait_event(graph.stream.record_event())

    def _copy(self, batch: SharedBatch) -> None:
        self.batch.position.copy_(batch.position, non_blocking=True)
        # Fewer views are drawn once the runs that looked at the others have ended.
        in_use = self.batch.view_ids[: len(batch.view_ids)]
        for target, ids in zip(in_use, batch.view_ids, strict=True):
            target.copy_(ids, non_blocking=True)
        for kind, examples in batch.others.items():
            for target, chosen in zip(self.batch.others[kind], examples, strict=True):
                target.copy_(chosen, non_blocking=True)
        shares = [batch.progress.epoch, batch.progress.epoch_end, batch.progress.step]
        self.progress.copy_(torch.tensor(shares, dtype=torch.float64), non_blocking=True)

    def _share(self) -> None:
        """Compute what the runs share; from nothing, so that the graph holds the computation."""
        self.batch.release()
        _ = self.batch.labels
        for shown in self._inputs:
            self.batch.images(shown)
        for teacher, shown in self._teachers:
            self.batch.live(teacher, shown)

    def _capture(self, run: TrainingRun) -> None:
        """Capture a run's step and leave the run as it was."""
        graph = CudaGraph(self.device)
        # Detached: a clone with a history would keep the parameters' gradient nodes on the
        # stream of now, and a capture on another stream fails when the backward reaches them.
        before = [(tensor, tensor.detach().clone()) for tensor in run.tensors()]
        draws = run.generator.get_state()
        self._synchronise()
        try:
            # On the stream of the graph: autograd's nodes and cuDNN's workspaces belong to the
            # stream they were made on, and another one's make a capture fail.
            with torch.cuda.stream(graph.stream):
                graph.use_own_dropout()
                for turn in range(WARM_UP):
                    run.seed_dropout()
                    # The first may wait while something is set up.
                    with no_waiting(self.device) if turn else nullcontext():
                        run.compute(self.batch)
            self._synchronise()
            # What the warm-up left behind must not be freed during a capture.
            gc.collect()
            graph.capture(lambda: run.compute(self.batch), [run.generator])
            self._graphs[run.spec.id] = graph
        except Exception as error:
            if isinstance(error, CaptureFailed) or out_of_memory(error):
                raise
            self.why_not_captured[run.spec.id] = one_line(error)
        finally:
            self._synchronise()
            run.generator.set_state(draws)
            self._undo(run, before)

    def _undo(self, run: TrainingRun, before: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Undo steps: `before` holds a run's tensors and what was in them."""
        kept = set()
        with torch.no_grad():
            for tensor, value in before:
                kept.add(id(tensor))
                tensor.copy_(value)
            # What the first step made: optimisers' moments and counts, sums.
            for tensor in run.tensors():
                if id(tensor) not in kept:
                    tensor.zero_()
        self._synchronise()

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
