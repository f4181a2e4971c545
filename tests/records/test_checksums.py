"""What is read is what was written: a changed bit or digit of a record is found."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.records import ARRAYS, READERS, WEIGHTS, begun, finished
from support.run_spec import SPEC, row

from kdbench.records.check import check_record
from kdbench.records.files import write_json
from kdbench.records.readers import CorruptRecord
from kdbench.records.store import Store
from kdbench.tracking.artifacts import gather
from kdbench.tracking.models import NetworkFile, log_weights


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def changed(content: bytes) -> bytes:
    """One digit or one bit of a file changed, so that it is still of its kind."""
    for old, new in (
        (b'"train.loss": 0.0', b'"train.loss": 0.1'),
        (b'"epochs": 2', b'"epochs": 3'),
        (b'"last": {}', b'"lasu": {}'),
    ):
        if old in content:
            return content.replace(old, new, 1)
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "name", ["result.json", "test.json", "weights.safetensors", "metrics.jsonl"]
)
def test_one_changed_bit_or_digit_is_found(store: Store, name: str) -> None:
    """What reads the file says so, and so does the check."""
    record = finished(store)
    path = record.folder / name
    path.write_bytes(changed(path.read_bytes()))
    with pytest.raises(CorruptRecord, match="the checksum differs") as caught:
        READERS[name](record)
    assert caught.value.path == path
    faults = check_record(store.record(record.id))
    assert [fault for fault in faults if fault.startswith(f"{name}: its content is not")]


def test_no_damaged_predictions_are_copied_into_mlflow(store: Store, tmp_path: Path) -> None:
    record = finished(store)
    path = record.folder / "test.npz"
    path.write_bytes(changed(path.read_bytes()))
    with pytest.raises(CorruptRecord, match=r"test\.npz"):
        gather(record, tmp_path, "last", None)


def test_no_damaged_weights_are_copied_into_mlflow(store: Store) -> None:
    record = finished(store)
    path = record.weights_path
    path.write_bytes(changed(path.read_bytes()))
    network = NetworkFile(path.name, "safetensors", (1, 8, 8), 4)
    with pytest.raises(CorruptRecord, match=r"weights\.safetensors"):
        log_weights(None, "1", "run", "kd seed 0", record, network)


def test_the_arrays_of_other_scores_are_found(store: Store) -> None:
    """A whole file of the right kind, but not the one that was written."""
    record = finished(store)
    np.savez_compressed(record.folder / "test.npz", **{**ARRAYS, "last": np.ones((3, 2))})
    with pytest.raises(CorruptRecord, match=r"test\.npz.*the checksum differs"):
        record.predictions()


def test_a_record_of_a_version_without_checksums_is_read(store: Store) -> None:
    record = finished(store)
    for name in ("result.json", "test.json"):
        raw = json.loads((record.folder / name).read_bytes())
        write_json(
            record.folder / name, {k: v for k, v in raw.items() if not k.startswith("sha256")}
        )
    assert record.checksums == {}
    assert check_record(record) == []
    assert record.state_dict() == WEIGHTS
    assert np.array_equal(record.predictions()["labels"], ARRAYS["labels"])


def test_a_spec_of_another_run_is_a_fault(store: Store) -> None:
    record = finished(store)
    other = replace(SPEC, seed=1)
    write_json(record.folder / "spec.json", json.loads(other.canonical()))
    (fault,) = check_record(store.record(record.id))
    assert other.id in fault
    with pytest.raises(CorruptRecord, match=f"it is the spec of run {other.id}") as caught:
        record.spec()
    assert caught.value.path == record.folder / "spec.json"
    with pytest.raises(CorruptRecord):
        record.begin(SPEC)


def test_lost_lines_of_metrics_are_a_fault(store: Store) -> None:
    record = finished(store)
    metrics = record.folder / "metrics.jsonl"
    lines = metrics.read_bytes().splitlines(keepends=True)
    metrics.write_bytes(lines[0])
    assert check_record(store.record(record.id)) == ["metrics.jsonl: 1 epochs of 2"]
    metrics.write_bytes(lines[0] + lines[1][:5])
    assert check_record(store.record(record.id)) == ["metrics.jsonl: 1 of its lines cannot be read"]
    with pytest.raises(CorruptRecord, match=r"metrics\.jsonl.*the checksum differs"):
        record.epochs()
    metrics.unlink()
    with pytest.raises(CorruptRecord, match=r"metrics\.jsonl.*missing"):
        record.epochs()


def test_of_an_unfinished_runs_metrics_the_whole_lines_are_read(store: Store) -> None:
    record = begun(store, 2)
    metrics = record.folder / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:-5])
    assert record.epochs() == [row(1)]


def test_the_metrics_of_a_diverged_run_are_verified_too(store: Store) -> None:
    record = begun(store, 2)
    record.finish({"state": "diverged", "epochs": 2, "diverged_epoch": 2}, None)
    assert check_record(record) == []
    metrics = record.folder / "metrics.jsonl"
    metrics.write_bytes(changed(metrics.read_bytes()))
    assert [fault.partition(":")[0] for fault in check_record(record)] == ["metrics.jsonl"]


@pytest.mark.parametrize("name", READERS)
def test_a_flipped_bit_in_any_byte_is_found(store: Store, name: str) -> None:
    """Or it changes no value: an `e` in a number's exponent may be an `E`, and the checksum of an
    error may have another name."""
    record = finished(store)
    record.fail({"message": "once"})
    path = record.folder / name
    content, value = path.read_bytes(), READERS[name](record)
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << (position * 5 + 3) % 8
        path.write_bytes(flipped)
        try:
            after = READERS[name](record)
        except CorruptRecord:
            continue
        if name == "error.json":
            assert after["message"] == value["message"]
        else:
            assert after == value
            assert content[position] in b"eE"


@pytest.mark.parametrize("name", READERS)
def test_a_link_to_nothing_in_a_files_place_is_a_fault(store: Store, name: str) -> None:
    record = finished(store)
    path = record.folder / name
    path.unlink(missing_ok=True)
    path.symlink_to(store.root / "nowhere")
    with pytest.raises(CorruptRecord) as caught:
        READERS[name](record)
    assert caught.value.path == path
    assert [fault for fault in check_record(record) if fault.startswith(name)]
