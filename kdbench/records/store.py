"""Records on disk: one folder a run. No torch here.

    runs/<id>/spec.json          what the run is
              metrics.jsonl      one line an epoch
              checkpoint.pt      the newest kept state, gone once the run is finished
              checkpoint.previous.pt  the one before it, for when the newest is damaged
              weights.safetensors  networks, `last/...` and `best/...`
              result.json        written last: the run is finished
              test.json, test.npz  the scores on the test set (finals and teachers)
              error.json         why the newest try failed
    runs/quarantine/<id>/        a damaged record, whole, and why it was moved there

Every file appears whole or not at all: it is written beside its place and renamed. result.json
and test.json carry a checksum of their own and those of the files written before them. Nothing
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
from kdbench.records import readers
from kdbench.records.bounded import MOST_WEIGHTS, inside
from kdbench.records.checkpoint import Checkpoint, pack, unpack
from kdbench.records.files import atomic_write, set_aside, sync_folder, write_json
from kdbench.records.readers import FILES, RECORD_FORMAT, CorruptRecord
from kdbench.records.spec import RunSpec

ID = re.compile("[0-9a-f]{12}")


class RecordBusy(KdbenchError, RuntimeError):
    """Another process is writing this record."""


class Record:
    """One run's folder. The state is read from the disk each time, never remembered.

    Reading a file that cannot be what was written raises `CorruptRecord`, and one of another
    version's format `OtherFormat`; of an unfinished run's metrics and checkpoints what is whole
    is read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name

    # -- what is recorded

    def begin(self, spec: RunSpec) -> None:
        """Write the spec, once. Raises `CorruptRecord` where the existing one cannot be read."""
        if self.spec() is None:
            write_json(self.folder / "spec.json", json.loads(spec.canonical()))
            sync_folder(self.folder.parent)

    def spec(self) -> RunSpec | None:
        """The spec, or None where the record has not been begun; it is the one that the record's
        id was made from."""
        return readers.read_spec(self.folder / "spec.json", self.id)

    @property
    def result(self) -> dict[str, Any] | None:
        """What the training gave (`state` is `done` or `diverged`), or None while unfinished."""
        return _without_checksums(readers.read_result(self.folder / "result.json"))

    @property
    def test(self) -> dict[str, Any] | None:
        """The test scores, or None while the run has not been scored."""
        return _without_checksums(readers.read_object(self.folder / "test.json"))

    @property
    def checksums(self) -> dict[str, str]:
        """SHA-256 by name, of the files that the training wrote before its result; none in a
        record of a version that wrote no checksums."""
        return _checksums(readers.read_result(self.folder / "result.json"))

    @property
    def error(self) -> dict[str, Any] | None:
        """Why the newest try failed, or None."""
        return readers.read_object(self.folder / "error.json")

    # -- while the run is trained

    def add_epochs(self, rows: Sequence[Mapping[str, Any]], checkpoint: bytes | None) -> None:
        """Write the metrics of epochs, then the checkpoint, so that none is without its metrics.

        Rows from the first new row's epoch on are replaced: a run that continues from its
        checkpoint repeats epochs. `checkpoint` is the state after the last row.
        """
        if rows:
            kept = [r for r in self.epochs() if r["epoch"] < rows[0]["epoch"]]
            text = "".join(json.dumps(r, sort_keys=True) + "\n" for r in [*kept, *rows])
            atomic_write(self.folder / "metrics.jsonl", text.encode())
            # This try has come further than the one that failed.
            (self.folder / "error.json").unlink(missing_ok=True)
        if checkpoint is None:
            return
        newest, previous = self.checkpoint_paths
        written = self.epochs()
        # An unusable checkpoint must not replace the previous one, the only good one left.
        if self._usable(newest, written):
            newest.replace(previous)
        epoch = written[-1]["epoch"] if written else 0
        atomic_write(newest, pack(Checkpoint(epoch, len(written), checkpoint)))

    def epochs(self) -> list[dict[str, Any]]:
        """One mapping an epoch, in order. Until the run is finished, lines that cannot be read
        are left out; after that the file is the one that its checksum was made from."""
        return readers.read_rows(self.folder / "metrics.jsonl", self.checksums)[0]

    @property
    def checkpoint_paths(self) -> tuple[Path, Path]:
        """The newest checkpoint and the one before it."""
        return self.folder / "checkpoint.pt", self.folder / "checkpoint.previous.pt"

    def checkpoint(self) -> bytes | None:
        """The newest state that is whole and has its metrics, or None: start again."""
        written = self.epochs()
        for path in self.checkpoint_paths:
            if checkpoint := self._usable(path, written):
                return checkpoint.payload
        return None

    def _usable(self, path: Path, written: Sequence[Mapping[str, Any]]) -> Checkpoint | None:
        """The checkpoint at `path` if it is whole and the rows `written` hold its metrics."""
        try:
            checkpoint = unpack(readers.read_content(path, MOST_WEIGHTS))
        except (OSError, CorruptRecord):  # none there, or a disk that cannot give it back
            return None
        if checkpoint is None:
            return None
        rows = sum(row["epoch"] <= checkpoint.epoch for row in written)
        return checkpoint if rows == checkpoint.rows else None

    # -- when the run ends

    def finish(self, result: Mapping[str, Any], weights: bytes | None) -> None:
        """Write the weights, then the result; after that the run is finished."""
        if weights is not None:
            atomic_write(self.weights_path, weights)
        metrics = self.folder / "metrics.jsonl"
        contents = {
            self.weights_path.name: weights,
            metrics.name: metrics.read_bytes() if metrics.exists() else None,
        }
        checksums = {n: readers.checksum(c) for n, c in contents.items() if c is not None}
        whole = {**result, "format": RECORD_FORMAT, FILES: checksums}
        write_json(self.folder / "result.json", readers.sealed(whole))
        for path in self.checkpoint_paths:
            path.unlink(missing_ok=True)
        (self.folder / "error.json").unlink(missing_ok=True)

    def fail(self, error: Mapping[str, Any]) -> None:
        """Keep why this try failed; the next start tries again."""
        write_json(self.folder / "error.json", readers.sealed(error))

    @property
    def weights_path(self) -> Path:
        """Where the trained networks are, as safetensors."""
        return self.folder / "weights.safetensors"

    def state_dict(self) -> bytes:
        """The weights of a finished run. Raises `CorruptRecord` where they are not whole."""
        return readers.read_weights(self.weights_path, self.checksums)

    def score(self, test: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Write the test scores, once: a second score of the same run is an error."""
        if self.test is not None:
            raise RuntimeError(f"run {self.id} has been scored on the test set already")
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
        atomic_write(self.folder / "test.npz", content.getvalue())
        checksums = {"test.npz": readers.checksum(content.getvalue())}
        whole = {**test, FILES: checksums}
        write_json(self.folder / "test.json", readers.sealed(whole))

    def predictions(self) -> dict[str, np.ndarray]:
        """The arrays kept by `score`: `last` (and `best`) logits, images x classes, `labels`."""
        path = self.folder / "test.npz"
        if not path.exists() and self.test is not None:
            raise CorruptRecord(path, "it is missing, though the run has been scored")
        checksums = _checksums(readers.read_object(self.folder / "test.json"))
        return readers.read_predictions(path, checksums)

    def path(self, name: str) -> Path:
        """Where a file of the record is, for those who copy it. Raises `CorruptRecord` where it
        leads out of the folder of all records."""
        return readers.file_of_record(self.folder / name)

    # -- locking

    @property
    def lock_path(self) -> Path:
        """The file that is locked while the record is written."""
        return self.folder / ".lock"

    @contextmanager
    def writing(self) -> Iterator["Record"]:
        """Lock the record. Raises `RecordBusy` where another process has it locked, and
        `CorruptRecord` where its folder is a link to somewhere else."""
        readers.file_of_record(self.folder / ".lock")
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.lock_path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RecordBusy(f"run {self.id} is being written by another process") from None
        try:
            yield self
        finally:
            lock.release()


def _checksums(value: Mapping[str, Any] | None) -> dict[str, str]:
    found = (value or {}).get(FILES)
    return found if isinstance(found, dict) else {}


def _without_checksums(value: dict[str, Any] | None) -> dict[str, Any] | None:
    if value is not None:
        value.pop(FILES, None)
    return value


class Store:
    """The files of a root folder: records, plans, cached outputs, reports."""

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
            with os.scandir(self.root / "runs") as entries:
                return sorted(e.name for e in entries if ID.fullmatch(e.name) and e.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def quarantine(self, run_id: str, why: str) -> Path:
        """Move a damaged record, whole, to runs/quarantine/ with a note of why; its new folder.

        Raises `RecordBusy` where somebody writes it, `FileNotFoundError` where none is.
        """
        record = self.record(run_id)
        if not record.folder.is_dir():
            raise FileNotFoundError(f"there is no record of run {run_id} in {self.root}")
        quarantine = self.root / "runs" / "quarantine"
        if record.lock_path.is_symlink() or record.lock_path.is_dir():
            set_aside(record.lock_path)  # nobody can hold it
        with record.writing():
            quarantine.mkdir(exist_ok=True)
            target, number = quarantine / run_id, 1
            while target.exists():
                number += 1
                target = quarantine / f"{run_id}-{number}"
            # Before the move: a record in quarantine always has its note.
            atomic_write(record.folder / "quarantine.txt", f"{why}\n".encode())
            record.folder.rename(target)
            sync_folder(quarantine)
            sync_folder(quarantine.parent)
        return target

    @property
    def output_cache(self) -> Path:
        """Where the outputs of teachers are cached."""
        return self.root / "runs" / "output_cache"

    def plan_path(self, study: str) -> Path:
        """The plan file of a study."""
        return self.root / "runs" / "plans" / f"{study}.json"

    def costs_path(self, study: str) -> Path:
        """The measured costs of a study's methods on this machine."""
        return self.root / "runs" / "plans" / f"{study}.cost.json"

    def report_folder(self, *parts: str) -> Path:
        """Where a study's report is written, or a part of it. Raises `Refused` where a link
        leads out of `reports/`."""
        folder = self.root.joinpath("reports", *parts)
        inside(folder, self.root / "reports")
        return folder
