"""A root that somebody else made: nothing leaves it, nothing hangs, and memory stays bounded."""

import io
import json
import os
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save as save_tensors
from support.run_spec import SPEC, row

from kdbench.cli.doctor import examine
from kdbench.cli.reproduce import copy_files
from kdbench.records.check import check_record
from kdbench.records.files import read_json
from kdbench.records.plan_file import CorruptPlan, PlanFile
from kdbench.records.readers import CorruptRecord, checksum, sealed
from kdbench.records.store import FILES, Record, Store
from kdbench.tracking.artifacts import gather
from kdbench.tracking.models import NetworkFile, log_weights
from kdbench.training.state import PackedCheckpoint, load_checkpoint, pack_state

WEIGHTS = save_tensors({"last/w": np.arange(6, dtype=np.float32)})
ARRAYS: dict[str, np.ndarray] = {"labels": np.arange(3), "last": np.zeros((3, 2), np.float32)}
READERS: dict[str, Callable[[Record], Any]] = {
    "spec.json": Record.spec,
    "result.json": lambda record: record.result,
    "test.json": lambda record: record.test,
    "error.json": lambda record: record.error,
    "metrics.jsonl": Record.epochs,
    "weights.safetensors": Record.state_dict,
    "test.npz": Record.predictions,
}
MEMORY = 64 << 20


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")


@pytest.fixture
def record(store: Store) -> Record:
    made = store.record(SPEC.id)
    made.begin(SPEC)
    made.add_epochs([row(1)], b"state")
    made.finish({"state": "done", "epochs": 1}, WEIGHTS)
    made.score({"last": {}}, ARRAYS)
    made.fail({"message": "an earlier try"})
    return made


@contextmanager
def bounded(most: int = MEMORY) -> Iterator[None]:
    """What runs within takes at most that much more memory."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak / 2**20:.0f} MiB"


def put(record: Record, name: str, content: bytes) -> None:
    """Replace weights or test arrays, with the right checksum, as whoever made a root could."""
    (record.folder / name).write_bytes(content)
    holder = record.folder / ("test.json" if name == "test.npz" else "result.json")
    value = json.loads(holder.read_text())
    del value["sha256"]
    value[FILES][name] = checksum(content)
    holder.write_text(json.dumps(sealed(value)))


# -- links


@pytest.mark.parametrize("name", READERS)
def test_a_file_of_a_record_that_is_a_link_out_is_not_read(
    record: Record, name: str, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (record.folder / name).rename(outside)  # the very content that would be right
    (record.folder / name).symlink_to(outside)
    with pytest.raises(CorruptRecord, match=r"is a symbolic link that leads out of .*runs"):
        READERS[name](record)
    (fault,) = [f for f in check_record(record) if f.startswith(name)]
    assert "leads out of" in fault


def test_a_link_inside_of_the_root_is_read(record: Record) -> None:
    weights = record.weights_path.rename(record.folder.parent / "kept.safetensors")
    record.weights_path.symlink_to(Path("..", weights.name))
    assert record.state_dict() == WEIGHTS


def test_runs_may_be_on_another_disk(record: Record, store: Store, tmp_path: Path) -> None:
    (store.root / "runs").rename(tmp_path / "disk")
    (store.root / "runs").symlink_to(tmp_path / "disk")
    assert check_record(record) == []


def test_a_record_that_is_a_link_out_is_neither_read_nor_written(
    record: Record, store: Store, tmp_path: Path
) -> None:
    elsewhere = record.folder.rename(tmp_path / record.id)
    record.folder.symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    with pytest.raises(CorruptRecord, match="leads out of"):
        _ = record.result
    with pytest.raises(CorruptRecord, match="leads out of"), record.writing():
        pass
    (finding,) = [f for f in examine(store) if SPEC.id in f.what]
    assert finding.repair is not None
    assert "remove the link by hand" in finding.repair()
    assert sorted(elsewhere.rglob("*")) == before


def test_a_lock_that_is_a_link_does_not_empty_what_it_names(record: Record, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (record.folder / ".lock").symlink_to(precious)
    with pytest.raises(CorruptRecord, match=r"\.lock.*leads out of"), record.writing():
        pass
    assert precious.read_text() == "kept"


def test_a_checkpoint_that_is_a_link_out_is_none(store: Store, tmp_path: Path) -> None:
    record = store.record(SPEC.id)
    record.begin(SPEC)
    record.add_epochs([row(1)], b"state")
    newest = record.checkpoint_paths[0]
    newest.rename(tmp_path / "outside")
    newest.symlink_to(tmp_path / "outside")
    assert record.checkpoint() is None


def test_files_outside_are_neither_copied_nor_shown_to_mlflow(
    record: Record, tmp_path: Path
) -> None:
    secret = tmp_path / "id_rsa"
    secret.write_text("secret")
    record.weights_path.unlink()
    record.weights_path.symlink_to(secret)
    (record.folder / "more").symlink_to(secret)
    network = NetworkFile(record.weights_path.name, "safetensors", (1, 8, 8), 4)
    target = tmp_path / "target"
    target.mkdir()
    for act in (
        lambda: copy_files(record, target),
        lambda: log_weights(None, "1", "run", "kd seed 0", record, network),
    ):
        with pytest.raises(CorruptRecord, match="leads out of"):
            act()
    gather(record, target, "last", None)
    for folder in (target, record.folder):
        copies = [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()]
        assert not [p for p in copies if b"secret" in p.read_bytes()]


def test_a_plan_and_costs_that_are_links_out(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text("{}")
    for path in (store.plan_path("s"), store.costs_path("s")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(outside)
    with pytest.raises(CorruptPlan, match="leads out of"):
        PlanFile.load(store.plan_path("s"))
    with pytest.raises(OSError, match="leads out of"):
        read_json(store.costs_path("s"))


def test_a_plan_that_a_terminal_would_obey(store: Store) -> None:
    path = store.plan_path("s")
    path.parent.mkdir(parents=True)
    for text in ("\x1b]0;owned\x07", "\x9b2J", "\x7f"):
        path.write_text(json.dumps({"study": "s", "selection": "last", "question": text}))
        with pytest.raises(CorruptPlan, match="holds a control character"):
            PlanFile.load(path)


# -- what is no file, or too large


@pytest.mark.parametrize("name", READERS)
def test_a_pipe_in_a_file_s_place_does_not_hang(record: Record, name: str) -> None:
    (record.folder / name).unlink()
    os.mkfifo(record.folder / name)
    with pytest.raises(CorruptRecord, match="is not a regular file"):
        READERS[name](record)


@pytest.mark.parametrize("name", READERS)
def test_a_sparse_file_of_a_terabyte_is_not_read(record: Record, name: str) -> None:
    os.truncate(record.folder / name, 1 << 40)
    with bounded(), pytest.raises(CorruptRecord, match="1,099,511,627,776 bytes, more than"):
        READERS[name](record)


def test_a_checkpoint_of_a_terabyte_is_none(record: Record) -> None:
    for path in record.checkpoint_paths:
        path.touch()
        os.truncate(path, 1 << 40)
    with bounded():
        assert record.checkpoint() is None


# -- weights


@pytest.mark.parametrize("length", [9 << 20, 2**63, 2**64 - 1])
def test_a_huge_safetensors_header_is_refused_before_it_is_read(
    record: Record, length: int
) -> None:
    put(record, "weights.safetensors", length.to_bytes(8, "little"))
    os.truncate(record.weights_path, 10 << 20)
    with bounded(16 << 20), pytest.raises(CorruptRecord, match="its header says it has"):
        record.state_dict()


@pytest.mark.parametrize("content", [b"", b"1234567", b"\2" + bytes(7) + b"{}"])
def test_safetensors_of_a_few_bytes(record: Record, content: bytes) -> None:
    put(record, "weights.safetensors", content)
    if content.endswith(b"{}"):
        assert record.state_dict() == content
        return
    with pytest.raises(CorruptRecord, match="is not whole"):
        record.state_dict()


# -- test arrays


def zipped(members: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind, compresslevel=9) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def npy(shape: tuple[int, ...], body: bytes = b"", descr: str = "<f4") -> bytes:
    buffer = io.BytesIO()
    head = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, head)
    return buffer.getvalue() + body


def declared(content: bytes, size: int) -> bytes:
    """A zip file of one member whose directory declares another size."""
    at = content.rindex(b"PK\1\2") + 24
    return content[:at] + size.to_bytes(4, "little") + content[at + 4 :]


ZEROS = bytes(48 << 20)
BOMBS = {
    "compressed zeros": lambda: zipped({"labels.npy": npy((12 << 20,), ZEROS)}),
    "a directory that declares a terabyte": lambda: declared(
        zipped({"labels.npy": npy((1,), bytes(4))}), (1 << 32) - 2
    ),
    "a directory that declares too little": lambda: declared(
        zipped({"labels.npy": npy((12 << 20,), ZEROS)}), 200
    ),
    "a header that declares a terabyte": lambda: zipped({"labels.npy": npy((1 << 38,))}),
    "a shape that overflows": lambda: zipped({"labels.npy": npy((1 << 62, 1 << 62))}),
    "an array of large items": lambda: zipped({"labels.npy": npy((1,), bytes(4), f"|V{1 << 30}")}),
    "bzip2": lambda: zipped({"labels.npy": npy((12 << 20,), ZEROS)}, zipfile.ZIP_BZIP2),
    "lzma": lambda: zipped({"labels.npy": npy((12 << 20,), ZEROS)}, zipfile.ZIP_LZMA),
    "a thousand arrays": lambda: zipped({f"a{k}.npy": npy((1,), bytes(4)) for k in range(1000)}),
    "a pickle": lambda: zipped({"labels.npy": npy((1,), b"\x80\x04N.", "|O")}),
    "no array": lambda: zipped({"labels.txt": b"1"}),
    "no zip": lambda: b"PK\3\4",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_zip_bomb_is_refused(record: Record, bomb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdbench.records.arrays.MOST_ARRAYS", 32 << 20)
    put(record, "test.npz", BOMBS[bomb]())
    with bounded(40 << 20), pytest.raises(CorruptRecord, match="arrays cannot be read"):
        record.predictions()


def test_a_compressed_checkpoint_is_refused() -> None:
    state = pack_state({"weights": torch.zeros(1 << 24)})
    content = {i: zipfile.ZipFile(io.BytesIO(state)).read(i) for i in names(state)}
    assert load_checkpoint(state, torch.device("cpu"))["weights"].shape == (1 << 24,)
    with bounded(), pytest.raises(PackedCheckpoint):
        load_checkpoint(zipped(content), torch.device("cpu"))


def names(content: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(content)).namelist()


def test_json_that_is_deep_or_long(record: Record) -> None:
    for content in ("[" * 10**6, '{"state": ' + "9" * 5000 + "}"):
        (record.folder / "result.json").write_text(content)
        with bounded(), pytest.raises(CorruptRecord, match="it is not JSON"):
            _ = record.result
