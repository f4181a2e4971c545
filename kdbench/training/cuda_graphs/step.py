"""Steps as CUDA graphs: recorded once, replayed with one launch each.

The models here are so small that a GPU waits for Python most of the time. So every
member's step is recorded at its first batch of each size and replayed on a stream of its
own; what the members share (images, live outputs of frozen networks) is a graph before
theirs. What changes from step to step or from run to run is read from tensors that stay where
they are: positions, views, progress, learning rate, the hyperparameters that tuning moves. A run that differs
from an earlier one in nothing else goes on in its tensors, and so in its recording. On the CPU the
same path runs without graphs.
"""

import gc
from collections.abc import Collection, Iterable, Mapping
from contextlib import nullcontext

import torch
from torch import Tensor

from kdbench.methods.types import Progress
from kdbench.training.batches import SharedBatch
from kdbench.training.cuda_graphs.recording import (
    WARM_UP,
    CaptureFailed,
    CudaGraph,
    no_waiting,
    said,
)
from kdbench.training.memory import out_of_memory
from kdbench.training.run import TrainingRun
from kdbench.training.teachers import TeacherNetwork


class GraphedStep:
    """The steps of a cohort's members over batches of one size.

    `seats` holds the members by number; who sits where may change, to a run that moved into
    the tensors of the one before it. `eager` says why a seat's step could not be recorded;
    such a member takes its steps one operation at a time, with the same result. Raises
    `CaptureFailed`, as `record` does.
    """

    def __init__(self, seats: Mapping[int, TrainingRun], batch: SharedBatch) -> None:
        self.seats = seats
        self.device = batch.position.device
        self.batch = batch.copied()
        self.progress = torch.zeros(3, dtype=torch.float64, device=self.device)
        self.batch.progress = Progress(*self.progress.unbind())
        self.eager: dict[int, str] = {}
        self._load(batch)
        self._shared = CudaGraph(self.device)
        self._views, self._live = _views_of(seats.values()), _live_networks(seats.values())
        self._share()
        self._synchronise()
        self._shared.record(self._share)
        self._shared.replay()
        self._synchronise()
        self._own: dict[int, CudaGraph] = {}

    def serves(self, members: Collection[TrainingRun]) -> bool:
        """Whether what is made for all has the views and the live outputs that these members
        need, and no others."""
        return (
            _views_of(members) == self._views
            and _live_networks(members).keys() == self._live.keys()
            and all(
                set(m.job.layers) <= set(self.batch.asked[id(network)])
                for m in members
                for network in _live_networks([m]).values()
            )
        )

    def drop(self, seat: int) -> None:
        """Forget a seat."""
        self._own.pop(seat, None)
        self.eager.pop(seat, None)

    def load(self, batch: SharedBatch) -> None:
        """Take up a batch: everything that the members share is made of it."""
        self._load(batch)
        if self._shared.stream is not None:
            self._shared.stream.wait_stream(torch.cuda.current_stream(self.device))
        self._shared.replay()
        if self._shared.stream is not None:
            self._ready = self._shared.stream.record_event()

    def record(self, seats: Iterable[int]) -> None:
        """Record the steps of these seats that have not been yet, on the batch that was taken
        up."""
        for seat in seats:
            if seat not in self._own and seat not in self.eager:
                self._record(seat)

    def step(self, seat: int) -> None:
        """One step of a member on the batch that was taken up."""
        member, own = self.seats[seat], self._own.get(seat)
        if self.device.type == "cuda":
            stream = own.stream if own else torch.cuda.current_stream(self.device)
            assert stream is not None
            stream.wait_event(self._ready)
        if own is None:
            member.step(self.batch)
            return
        own.take_dropout()
        member.seed()
        own.replay()
        member.advance(self.batch)

    def finish(self) -> None:
        """Have what comes next wait for the members' steps."""
        if self.device.type == "cuda":
            now = torch.cuda.current_stream(self.device)
            for own in self._own.values():
                assert own.stream is not None
                now.wait_event(own.stream.record_event())

    def _load(self, batch: SharedBatch) -> None:
        self.batch.position.copy_(batch.position, non_blocking=True)
        # Fewer views are drawn once those who looked at the others have left.
        left = self.batch.view_ids[: len(batch.view_ids)]
        for mine, its in zip(left, batch.view_ids, strict=True):
            mine.copy_(its, non_blocking=True)
        shares = [batch.progress.epoch, batch.progress.epoch_end, batch.progress.step]
        self.progress.copy_(torch.tensor(shares, dtype=torch.float64), non_blocking=True)

    def _share(self) -> None:
        """Make what the members share; anew, so that a recording holds the making."""
        self.batch.release()
        _ = self.batch.labels
        for view in self._views:
            self.batch.images(view)
        for network in self._live.values():
            self.batch.live(network)

    def _record(self, seat: int) -> None:
        member = self.seats[seat]
        error = self._attempt(seat)
        if error and member.hparams:
            # A method may need its hyperparameters as numbers: no other values for that recording.
            member.read_hparams_from_numbers()
            error = self._attempt(seat)
        if error:
            self.eager[seat] = error

    def _attempt(self, seat: int) -> str | None:
        """Record a seat's step and leave its run as it was; why not, where that fails."""
        member = self.seats[seat]
        own = CudaGraph(self.device, member.hparams)
        before = [(tensor, tensor.clone()) for tensor in member.tensors()]
        draws = member.generator.get_state()
        self._synchronise()
        try:
            # On the stream of the recording: autograd's nodes and cuDNN's workspaces belong to
            # the stream they were made on, and another one's break a recording off.
            with torch.cuda.stream(own.stream):
                own.take_dropout()
                for turn in range(WARM_UP):
                    member.seed()
                    # The first may wait while something is set up.
                    with no_waiting(self.device) if turn else nullcontext():
                        member.compute(self.batch)
            member.check_hparams()
            self._synchronise()
            # What the warm-up left behind must not be freed while a recording is made.
            gc.collect()
            own.record(lambda: self.seats[seat].compute(self.batch), [member.generator])
            self._own[seat] = own
        except Exception as error:
            if isinstance(error, CaptureFailed) or out_of_memory(error):
                raise
            return said(error)
        finally:
            self._synchronise()
            member.generator.set_state(draws)
            self._restore(member, before)
        return None

    def _restore(self, member: TrainingRun, before: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Undo steps: `before` holds a member's tensors and what was in them."""
        known = set()
        with torch.no_grad():
            for tensor, value in before:
                known.add(id(tensor))
                tensor.copy_(value)
            # What the first step made: optimisers' moments and counts, sums.
            for tensor in member.tensors():
                if id(tensor) not in known:
                    tensor.zero_()
        self._synchronise()

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _views_of(members: Iterable[TrainingRun]) -> set[int]:
    """The views that a member looks at."""
    return {view for m in members for view in (0, *m.method.views.values())}


def _live_networks(members: Iterable[TrainingRun]) -> dict[int, TeacherNetwork]:
    """The frozen networks that are asked batch by batch, by identity."""
    return {
        id(network): network
        for m in members
        for network, from_table in m.teachers.values()
        if not from_table
    }
