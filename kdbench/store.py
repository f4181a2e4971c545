"""Records on disk: one folder a run, and what makes the work durable. No torch here.

    runs/<id>/spec.json          what the run is
              metrics.jsonl      one line an epoch
              checkpoint.pt      the newest epoch's state, gone once the run is finished
              weights.safetensors  networks, `last/...` and `best/...`
              result.json        written last: the run is finished
              test.json, test.npz  the one opening of the test set (finals and teachers)
              error.json         why the newest try failed

Every file appears whole or not at all: it is written beside its place and renamed.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from kdbench.run import RunSpec


class RecordBusy(RuntimeError):
    """Another process is writing this record."""


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path` atomically: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON, whole or not at all."""
    write_whole(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def read_json(path: Path) -> Any:
    """The file's JSON, or None where there is no file."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


class Record:
    """One run's folder. The state is read from the disk each time, never remembered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name

    # -- what it is

    def begin(self, spec: RunSpec) -> None:
        """Write the spec, once."""
        if not (self.folder / "spec.json").exists():
            write_json(self.folder / "spec.json", json.loads(spec.canonical()))

    def spec(self) -> RunSpec | None:
        """The spec, or None where the record has not been begun."""
        raw = read_json(self.folder / "spec.json")
        return None if raw is None else RunSpec.from_dict(raw)

    @property
    def result(self) -> dict[str, Any] | None:
        """What the training gave (`state` is `done` or `diverged`), or None while unfinished."""
        return read_json(self.folder / "result.json")

    @property
    def test(self) -> dict[str, Any] | None:
        """The test scores, or None while the test set is sealed for this run."""
        return read_json(self.folder / "test.json")

    @property
    def error(self) -> dict[str, Any] | None:
        """Why the newest try failed, or None."""
        return read_json(self.folder / "error.json")

    # -- while it trains

    def add_epochs(self, rows: Sequence[Mapping[str, Any]], checkpoint: bytes | None) -> None:
        """Keep epochs: the metrics first, so that no state is without its metrics.

        What stood there from the first row's epoch on is replaced: a run that went
        back to its checkpoint says those epochs again.
        """
        if rows:
            kept = [r for r in self.epochs() if r["epoch"] < rows[0]["epoch"]]
            text = "".join(json.dumps(r, sort_keys=True) + "\n" for r in [*kept, *rows])
            write_whole(self.folder / "metrics.jsonl", text.encode())
        if checkpoint is not None:
            write_whole(self.folder / "checkpoint.pt", checkpoint)

    def epochs(self) -> list[dict[str, Any]]:
        """One mapping an epoch, in order."""
        try:
            lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines]

    def checkpoint(self) -> bytes | None:
        """The newest epoch's state, or None."""
        try:
            return (self.folder / "checkpoint.pt").read_bytes()
        except FileNotFoundError:
            return None

    # -- when it ends

    def finish(self, result: Mapping[str, Any], weights: bytes | None) -> None:
        """Write the weights, then the result; after that the run is finished."""
        if weights is not None:
            write_whole(self.weights_path, weights)
        write_json(self.folder / "result.json", dict(result))
        (self.folder / "checkpoint.pt").unlink(missing_ok=True)
        (self.folder / "error.json").unlink(missing_ok=True)

    def fail(self, error: Mapping[str, Any]) -> None:
        """Keep why this try failed; the next start tries again."""
        write_json(self.folder / "error.json", dict(error))

    @property
    def weights_path(self) -> Path:
        """Where the trained networks are, as safetensors."""
        return self.folder / "weights.safetensors"

    def score(self, test: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Write the test scores, once: a second score of the same run is an error."""
        if self.test is not None:
            raise RuntimeError(f"run {self.id} has been scored on the test set already")
        part = self.folder / ".test.part.npz"
        np.savez_compressed(part, **arrays)  # type: ignore[arg-type]
        part.replace(self.folder / "test.npz")
        write_json(self.folder / "test.json", dict(test))

    def predictions(self) -> dict[str, np.ndarray]:
        """The arrays kept by `score`: `last` (and `best`) logits, images x classes, `labels`."""
        with np.load(self.folder / "test.npz") as arrays:
            return dict(arrays)

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

    @property
    def tables(self) -> Path:
        """Where the outputs of frozen networks are kept."""
        return self.root / "runs" / "tables"

    def plan_path(self, study: str) -> Path:
        """The plan of a study as it now reads."""
        return self.root / "runs" / "plans" / f"{study}.json"

    def calibration_path(self, study: str) -> Path:
        """The measured costs of a study's methods on this machine."""
        return self.root / "runs" / "plans" / f"{study}.cost.json"

    def report_folder(self, study: str) -> Path:
        """Where the study's leaderboard goes."""
        return self.root / "reports" / study
