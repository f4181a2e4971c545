"""The CUDA graphs of one group of runs after another."""

import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from kdbench.records.spec import RunSpec
from kdbench.training.batches import SharedBatch
from kdbench.training.cuda_graphs.recording import CaptureFailed
from kdbench.training.cuda_graphs.step import GraphedStep
from kdbench.training.memory import out_of_memory, release
from kdbench.training.run import TrainingRun, one_by_one


class GraphPool:
    """The recorded steps of one cohort after another, for each size of batch that comes.

    Once a recording has broken off, all steps are eager: that of a mate may be damaged too.
    """

    def __init__(self) -> None:
        self._seats: dict[int, TrainingRun] = {}
        self._seat_of: dict[str, int] = {}
        self._sizes: dict[int, GraphedStep] = {}
        self._broken: str | None = None
        self._numbers = itertools.count()

    def prepare(self, specs: Sequence[RunSpec]) -> None:
        """Make room for a cohort of these runs, whose members are built next."""
        self._keep(self._predecessors(specs).values())

    def admit(self, members: Sequence[TrainingRun]) -> None:
        """Take in a cohort whose steps come next. A run that has a forerunner goes on in its
        tensors and recordings; the others are recorded anew. So are all where they need
        other images or live outputs than were recorded."""
        if self._broken:
            return
        seats = self._predecessors([m.spec for m in members])
        if not all(replayed.serves(members) for replayed in self._sizes.values()):
            seats.clear()
        self._keep(seats.values())
        for member in members:
            if member.spec.id in seats:
                member.move_into(self._seats[seats[member.spec.id]])
            else:
                member.read_hparams_from_tensors()
                seats[member.spec.id] = next(self._numbers)
            self._seats[seats[member.spec.id]] = member
        self._seat_of = seats

    def step(
        self,
        batch: SharedBatch,
        members: Sequence[TrainingRun],
        guarded: Callable[..., bool],
    ) -> list[TrainingRun]:
        """One step of every member that is left; those for which it went well."""
        if self._broken:
            return one_by_one(batch, members, guarded)
        try:
            replayed, seats = self._taken_up(batch, members)
        except CaptureFailed as error:
            self._broken = str(error)
            self.forget()
            for member in members:
                member.read_hparams_from_numbers()
            if error.__cause__ and out_of_memory(error.__cause__):
                raise error.__cause__ from None
            return one_by_one(batch, members, guarded)
        left = [
            m
            for m, seat in zip(members, seats, strict=True)
            if guarded(m.spec.id, replayed.step, seat)
        ]
        replayed.finish()
        return left

    def _taken_up(
        self, batch: SharedBatch, members: Sequence[TrainingRun]
    ) -> tuple[GraphedStep, list[int]]:
        """The steps on a batch, recorded for these members; and their seats."""
        size = len(batch.position)
        if size not in self._sizes:
            self._sizes[size] = GraphedStep(self._seats, batch)
        replayed, seats = self._sizes[size], [self._seat_of[m.spec.id] for m in members]
        replayed.load(batch)
        replayed.record(seats)
        return replayed, seats

    def eager(self, member: TrainingRun) -> str | None:
        """Why a member's steps could not be recorded, or None."""
        if self._broken:
            return self._broken
        seat = self._seat_of[member.spec.id]
        return next((r.eager[seat] for r in self._sizes.values() if seat in r.eager), None)

    def forget(self) -> None:
        """Let go of all recordings."""
        self._keep(())

    def _keep(self, seats: Collection[int]) -> None:
        """Let go of all other seats."""
        gone = self._seats.keys() - seats
        for seat in gone:
            del self._seats[seat]
            for replayed in self._sizes.values():
                replayed.drop(seat)
        if not self._seats:
            self._sizes.clear()
        if gone:
            release()

    def _predecessors(self, specs: Sequence[RunSpec]) -> dict[str, int]:
        """Seats that some of these runs may take, each one of its own, by run."""
        free = dict(self._seats)
        found = {}
        for spec in specs:
            seat = next((seat for seat, its in free.items() if _alike(spec, its)), None)
            if seat is not None:
                del free[seat]
                found[spec.id] = seat
        return found


def _alike(spec: RunSpec, member: TrainingRun) -> bool:
    """Whether a run may go on in what was recorded of another one: they differ in nothing but
    the seed, the learning rate, which of the images they train on, and hyperparameters that the
    recording reads from tensors."""

    def recorded(one: RunSpec) -> RunSpec:
        return replace(
            one,
            seed=0,
            data=replace(one.data, validation=0, split_seed=0, train_on=""),
            recipe=replace(one.recipe, lr=0.0),
            hparams={
                name: value for name, value in one.hparams.items() if name not in member.hparams
            },
        )

    return recorded(spec) == recorded(member.spec)
