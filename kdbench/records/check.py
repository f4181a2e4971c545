"""What is wrong with a record, in plain words."""

from collections.abc import Callable

from kdbench.records.readers import CorruptRecord, NewerRecord, T, read_rows, read_weights
from kdbench.records.store import Record


def check_record(record: "Record") -> list[str]:
    """What is wrong with a record, a line each. A newer one is not judged further.

    What a kill may leave is no fault, for the next start goes on from it: weights without
    a result, predictions without test scores.
    """
    found: list[str] = []

    def read(get: Callable[[], T]) -> T | None:
        try:
            return get()
        except NewerRecord:
            raise
        except CorruptRecord as error:
            found.append(f"{error.path.name}: {error.why}")
            return None

    try:
        result = read(lambda: record.result)
    except NewerRecord as error:
        return [f"{error.path.name}: {error.why}"]
    begun = any(path.name != ".lock" for path in record.folder.glob("*"))
    spec = read(record.spec)
    if spec is not None and spec.id != record.id:
        found.append(f"spec.json: it is the spec of run {spec.id}, not of {record.id}")
    if begun and not (record.folder / "spec.json").exists():
        found.append("spec.json: it is missing")
    test = read(lambda: record.test)
    read(lambda: record.error)
    rows, bad = read_rows(record.folder / "metrics.jsonl")
    if bad:
        found.append(f"metrics.jsonl: {bad} of its lines cannot be read")
    if result is not None:
        if result["state"] not in ("done", "diverged"):
            found.append(f"result.json: unknown state {result['state']!r}")
        if result["state"] == "done":
            read(lambda: read_weights(record.weights_path))
            epochs = result.get("epochs")
            if not bad and type(epochs) is int and len(rows) != epochs:
                found.append(f"metrics.jsonl: {len(rows)} epochs of {epochs}")
    elif any(path.exists() for path in record.checkpoint_paths) and record.checkpoint() is None:
        found.append("checkpoint.pt: no checkpoint is whole and has its metrics")
    if test is not None:
        read(record.predictions)
    return found
