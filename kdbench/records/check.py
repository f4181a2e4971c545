"""What is wrong with a record, in plain words."""

import os
from collections.abc import Callable

from kdbench.records.readers import (
    CorruptRecord,
    OtherFormat,
    T,
    file_of_record,
    read_rows,
)
from kdbench.records.store import Record


def check_record(record: Record) -> list[str]:
    """What is wrong with a record, a line each; of one of another format only that it is.

    What a kill may leave is not wrong, for the next start continues from it: weights without
    a result, predictions without test scores.
    """
    if not record.folder.is_dir():
        return ["it is no folder"] if os.path.lexists(record.folder) else []
    try:
        return _faults(record)
    except OtherFormat as error:
        return [f"{error.path.name}: {error.why}"]


def _faults(record: Record) -> list[str]:
    faults: list[str] = []

    def read(get: Callable[[], T]) -> T | None:
        try:
            return get()
        except OtherFormat:
            raise
        except CorruptRecord as error:
            faults.append(f"{error.path.name}: {error.why}")
            return None

    if read(lambda: file_of_record(record.folder / ".lock")) is None:
        return faults
    result = read(lambda: record.result)
    begun = any(path.name != ".lock" for path in record.folder.glob("*"))
    read(record.spec)
    if begun and not os.path.lexists(record.folder / "spec.json"):
        faults.append("spec.json: it is missing")
    test = read(lambda: record.test)
    read(lambda: record.error)
    metrics = record.folder / "metrics.jsonl"
    rows, unreadable = read(lambda: read_rows(metrics)) or (None, 0)
    if unreadable:
        faults.append(f"metrics.jsonl: {unreadable} of its lines cannot be read")
    if result is not None:
        if result["state"] not in ("done", "diverged"):
            faults.append(f"result.json: unknown state {result['state']!r}")
        if result["state"] == "done":
            read(record.state_dict)
            epochs = result.get("epochs")
            if rows is None or unreadable:
                pass  # said already
            elif type(epochs) is int and len(rows) != epochs:
                faults.append(f"metrics.jsonl: {len(rows)} epochs of {epochs}")
        if not any(fault.startswith(metrics.name) for fault in faults):
            read(record.epochs)
    elif any(path.exists() for path in record.checkpoint_paths) and not read(record.checkpoint):
        faults.append("checkpoint.pt: no checkpoint is whole and has its metrics")
    if test is not None:
        read(record.predictions)
    return faults
