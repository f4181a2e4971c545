"""Records that tests write by hand, and what reads each of their files."""

from collections.abc import Callable
from typing import Any

import numpy as np
from safetensors.numpy import save as save_tensors
from support.run_spec import SPEC, row

from kdbench.records.store import Record, Store

WEIGHTS = save_tensors({"last/w": np.arange(6, dtype=np.float32)})
ARRAYS: dict[str, np.ndarray] = {"labels": np.arange(3), "last": np.zeros((3, 2), np.float32)}
READERS: dict[str, Callable[[Record], Any]] = {
    "spec.json": Record.spec,
    "result.json": lambda record: record.result,
    "test.json": lambda record: record.test,
    "error.json": lambda record: record.error,
    "weights.safetensors": Record.state_dict,
    "test.npz": Record.predictions,
    "metrics.jsonl": Record.epochs,
}


def begun(store: Store, *epochs: int) -> Record:
    """A record with a checkpoint after each of these epochs; its payload is the number."""
    record = store.record(SPEC.id)
    record.begin(SPEC)
    done = 0
    for epoch in epochs:
        record.add_epochs([row(e) for e in range(done + 1, epoch + 1)], payload(epoch))
        done = epoch
    return record


def payload(epoch: int) -> bytes:
    return b"%d" % epoch * 400


def finished(store: Store, epochs: int = 2) -> Record:
    record = begun(store, epochs)
    record.finish({"state": "done", "epochs": epochs}, WEIGHTS)
    record.score({"last": {}}, ARRAYS)
    return record
