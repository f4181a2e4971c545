"""Records on disk: one folder a run, and what makes the work durable. No torch here.

    runs/<id>/spec.json          what the run is
              metrics.jsonl      one line an epoch
              checkpoint.pt      the newest kept state, gone once the run is finished
              checkpoint.before.pt  the one before it, for when the newest is damaged
              weights.safetensors  networks, `last/...` and `best/...`
              result.json        written last: the run is finished
              test.json, test.npz  the one opening of the test set (finals and teachers)
              error.json         why the newest try failed
    runs/aside/<id>/             a record that was set aside, whole, and why

Every file appears whole or not at all: it is written beside its place and renamed. Nothing
here looks at a file's time: which checkpoint is newer follows from its name.
"""

import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from kdbench.errors import KdbenchError
from kdbench.records import readers as damage
from kdbench.records.checkpoint import Checkpoint, pack, unpack
from kdbench.records.files import (
    atomic_write,
    sync_folder,
    write_json,
)
from kdbench.records.readers import RECORD_FORMAT, CorruptRecord
from kdbench.records.spec import RunSpec

ID = re.compile("[0-9a-f]{12}")


class RecordBusy(KdbenchError, RuntimeError):
    """Another process is writing this record."""


class Record:
    """One run's folder. The state is read from the disk each time, never remembered.

    Reading a file that cannot be what was written raises `CorruptRecord`, and a result of
    a later format `NewerRecord`; metrics and checkpoints give what is whole in them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name

    # -- what it is

    def begin(self, spec: RunSpec) -> None:
        """Write the spec, once. Raises `CorruptRecord` where the one that is there is none."""
        if self.spec() is None:
            write_json(self.folder / "spec.json", json.loads(spec.canonical()))
            sync_folder(self.folder.parent)

    def spec(self) -> RunSpec | None:
        """The spec, or None where the record has not been begun."""
        return damage.read_spec(self.folder / "spec.json")

    @property
    def result(self) -> dict[str, Any] | None:
        """What the training gave (`state` is `done` or `diverged`), or None while unfinished."""
        return damage.read_result(self.folder / "result.json")

    @property
    def test(self) -> dict[str, Any] | None:
        """The test scores, or None while the test set is sealed for this run."""
        return damage.read_object(self.folder / "test.json")

    @property
    def error(self) -> dict[str, Any] | None:
        """Why the newest try failed, or None."""
        return damage.read_object(self.folder / "error.json")

    # -- while it trains

    def add_epochs(self, rows: Sequence[Mapping[str, Any]], checkpoint: bytes | None) -> None:
        """Keep epochs: the metrics first, so that no state is without its metrics.

        What stood there from the first row's epoch on is replaced: a run that went
        back to its checkpoint says those epochs again. `checkpoint` is the state after
        the last row.
        """
        if rows:
            kept = [r for r in self.epochs() if r["epoch"] < rows[0]["epoch"]]
            text = "".join(json.dumps(r, sort_keys=True) + "\n" for r in [*kept, *rows])
            atomic_write(self.folder / "metrics.jsonl", text.encode())
            # This try has come further than the one that failed.
            (self.folder / "error.json").unlink(missing_ok=True)
        if checkpoint is None:
            return
        newest, before = self.checkpoint_paths
        stands = self.epochs()
        # One that cannot be used must not push out the one that may be the last good one.
        if self._usable(newest, stands):
            newest.replace(before)
        epoch = stands[-1]["epoch"] if stands else 0
        atomic_write(newest, pack(Checkpoint(epoch, len(stands), checkpoint)))

    def epochs(self) -> list[dict[str, Any]]:
        """One mapping an epoch, in order; lines that cannot be read are left out."""
        return damage.read_rows(self.folder / "metrics.jsonl")[0]

    @property
    def checkpoint_paths(self) -> tuple[Path, Path]:
        """The newest checkpoint and the one before it."""
        return self.folder / "checkpoint.pt", self.folder / "checkpoint.before.pt"

    def checkpoint(self) -> bytes | None:
        """The newest state that is whole and has its metrics, or None: start again."""
        stands = self.epochs()
        for path in self.checkpoint_paths:
            if found := self._usable(path, stands):
                return found.payload
        return None

    def _usable(self, path: Path, stands: Sequence[Mapping[str, Any]]) -> Checkpoint | None:
        """The checkpoint at `path` if a run can go on from it with the metrics that stand."""
        try:
            found = unpack(path.read_bytes())
        except OSError:  # none there, or a disk that cannot give it back
            return None
        if found is None or sum(r["epoch"] <= found.epoch for r in stands) != found.rows:
            return None
        return found

    # -- when it ends

    def finish(self, result: Mapping[str, Any], weights: bytes | None) -> None:
        """Write the weights, then the result; after that the run is finished."""
        if weights is not None:
            atomic_write(self.weights_path, weights)
        write_json(self.folder / "result.json", {**result, "format": RECORD_FORMAT})
        for path in self.checkpoint_paths:
            path.unlink(missing_ok=True)
        (self.folder / "error.json").unlink(missing_ok=True)

    def fail(self, error: Mapping[str, Any]) -> None:
        """Keep why this try failed; the next start tries again."""
        write_json(self.folder / "error.json", dict(error))

    @property
    def weights_path(self) -> Path:
        """Where the trained networks are, as safetensors."""
        return self.folder / "weights.safetensors"

    def state_dict(self) -> bytes:
        """The weights of a finished run. Raises `CorruptRecord` where they are not whole."""
        return damage.read_weights(self.weights_path)

    def score(self, test: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Write the test scores, once: a second score of the same run is an error."""
        if self.test is not None:
            raise RuntimeError(f"run {self.id} has been scored on the test set already")
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
        atomic_write(self.folder / "test.npz", content.getvalue())
        write_json(self.folder / "test.json", dict(test))

    def predictions(self) -> dict[str, np.ndarray]:
        """The arrays kept by `score`: `last` (and `best`) logits, images x classes, `labels`."""
        path = self.folder / "test.npz"
        if not path.exists() and self.test is not None:
            raise CorruptRecord(path, "it is missing, though the run has been scored")
        return damage.read_arrays(path)

    # -- who writes

    @contextmanager
    def writing(self) -> Iterator["Record"]:
        """Hold the record's lock. Raises `RecordBusy` where another process holds it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RecordBusy(f"run {self.id} is being written by another process") from None
        try:
            yield self
        finally:
            lock.release()


class Store:
    """All that a root folder holds: records, plans, tables, MLflow's database."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def record(self, run_id: str) -> Record:
        """The record of a run, begun or not."""
        return Record(self.root / "runs" / run_id)

    def records(self, ids: Iterable[str]) -> list[Record]:
        """The records of several runs, in the same order."""
        return [self.record(i) for i in ids]

    def ids(self) -> list[str]:
        """The ids of all records that are here, begun or not."""
        try:
            with os.scandir(self.root / "runs") as found:
                return sorted(e.name for e in found if ID.fullmatch(e.name) and e.is_dir())
        except FileNotFoundError:
            return []

    def quarantine(self, run_id: str, why: str) -> Path:
        """Move a record out of the way, whole, with a note of why; where it is now.

        Raises `RecordBusy` where somebody writes it, `FileNotFoundError` where none is.
        """
        record = self.record(run_id)
        if not record.folder.is_dir():
            raise FileNotFoundError(f"there is no record of run {run_id} in {self.root}")
        aside = self.root / "runs" / "aside"
        with record.writing():
            aside.mkdir(exist_ok=True)
            target, number = aside / run_id, 1
            while target.exists():
                number += 1
                target = aside / f"{run_id}-{number}"
            # Before the move: a record that lies aside always says why.
            atomic_write(record.folder / "set-aside.txt", f"{why}\n".encode())
            record.folder.rename(target)
            sync_folder(aside)
            sync_folder(aside.parent)
        return target

    @property
    def tables(self) -> Path:
        """Where the outputs of frozen networks are kept."""
        return self.root / "runs" / "tables"

    def plan_path(self, study: str) -> Path:
        """The plan of a study as it now reads."""
        return self.root / "runs" / "plans" / f"{study}.json"

    def costs_path(self, study: str) -> Path:
        """The measured costs of a study's methods on this machine."""
        return self.root / "runs" / "plans" / f"{study}.cost.json"

    def report_folder(self, study: str) -> Path:
        """Where the study's leaderboard goes."""
        return self.root / "reports" / study
