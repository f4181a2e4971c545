"""Nothing that was kept is lost: kills at every moment, torn files, full and read-only disks."""

import errno
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from support.records import ARRAYS, READERS, WEIGHTS, begun, finished, payload
from support.run_spec import SPEC, row

from kdbench.data import Views
from kdbench.records import checkpoint as checkpoints
from kdbench.records.check import check_record
from kdbench.records.checkpoint import Checkpoint, pack, unpack
from kdbench.records.files import DiskFull, atomic_open, atomic_write, stale_part_files, write_json
from kdbench.records.readers import RECORD_FORMAT, CorruptRecord, OtherFormat, read_rows
from kdbench.records.store import Record, RecordBusy, Store
from kdbench.training import teachers as frozen
from kdbench.training.teachers import TeacherNetwork, load_student


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def go_on(record: Record, until: int) -> None:
    """What the next start does: from the checkpoint's epoch on, and to the end."""
    kept = record.checkpoint()
    done = 0 if kept is None else next(e for e in range(1, 100) if payload(e) == kept)
    record.add_epochs([row(e) for e in range(done + 1, until + 1)], payload(until))
    assert [r["epoch"] for r in record.epochs()] == list(range(1, until + 1))
    assert record.checkpoint() == payload(until)


# -- checkpoints


@pytest.mark.parametrize("tenth", range(10))
def test_a_checkpoint_cut_short_falls_back_to_the_one_before(store: Store, tenth: int) -> None:
    record = begun(store, 2, 5)
    path = record.checkpoint_paths[0]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * tenth // 10])
    assert record.checkpoint() == payload(2)
    assert not check_record(store.record(record.id))
    go_on(record, 4)
    go_on(record, 7)
    # The torn one never took the place of the good one before it.
    record.checkpoint_paths[0].unlink()
    assert record.checkpoint() == payload(4)


def test_both_checkpoints_broken_is_to_start_again(store: Store) -> None:
    record = begun(store, 2, 5)
    for path in record.checkpoint_paths:
        path.write_bytes(path.read_bytes()[:-1])
    assert record.checkpoint() is None
    assert "no checkpoint is whole" in check_record(store.record(record.id))[0]
    go_on(record, 3)


def test_every_flipped_bit_is_noticed() -> None:
    content = pack(Checkpoint(3, 3, b"state of epoch three"))
    assert unpack(content) == Checkpoint(3, 3, b"state of epoch three")
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        assert unpack(bytes(flipped)) is None
    assert unpack(content + b"\0") is None


@given(st.binary(max_size=200))
def test_garbage_is_no_checkpoint(content: bytes) -> None:
    assert unpack(content) is None
    assert unpack(b"kdbench-checkpoint 1 " + content) is None


@pytest.mark.parametrize("kept", ["0.1", "newer"])
def test_a_checkpoint_of_another_format_is_not_used(
    store: Store, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    record = begun(store)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "CHECKPOINT_FORMAT", 2)
        record.add_epochs([row(1)], payload(1))
        assert record.checkpoint() == payload(1)
    if kept == "0.1":
        buffer = io.BytesIO()
        torch.save({"epoch": 1}, buffer)
        record.checkpoint_paths[0].write_bytes(buffer.getvalue())
    assert record.checkpoint() is None
    go_on(record, 3)


def test_a_checkpoint_whose_metrics_are_gone_is_not_used(store: Store) -> None:
    record = begun(store, 2, 4)
    lines = (record.folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (record.folder / "metrics.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:9])
    assert len(record.epochs()) == 3
    assert record.checkpoint() == payload(2)
    go_on(record, 5)


def test_finishing_removes_both_checkpoints(store: Store) -> None:
    record = begun(store, 1, 2)
    assert all(path.exists() for path in record.checkpoint_paths)
    record.finish({"state": "done"}, WEIGHTS)
    assert not any(path.exists() for path in record.checkpoint_paths)


@given(st.binary(max_size=300))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
def test_garbage_in_the_metrics_stops_nobody(tmp_path: Path, content: bytes) -> None:
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)
    record = begun(Store(tmp_path), 2, 4)
    metrics = record.folder / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes() + content)
    record.epochs()
    go_on(record, 6)
    metrics.write_bytes(content)
    check_record(Store(tmp_path).record(record.id))
    go_on(record, 5)


# -- kills


class Killed(BaseException):
    """Stands for a process that ends here."""


@contextmanager
def boundaries(patch: pytest.MonkeyPatch, at: int, end: Callable[[], None]) -> Iterator[list[str]]:
    """`end()` before and after the `at`-th open, write, fsync or rename; what was passed."""
    passed: list[str] = []

    def step(name: str) -> None:
        passed.append(name)
        if len(passed) == at:
            end()

    def around(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            step(f"before {name}")
            value = real(*args, **kwargs)
            step(f"after {name}")
            return value

        return call

    real_open = Path.open

    def opened(self: Path, *args: Any, **kwargs: Any) -> Any:
        file = real_open(self, *args, **kwargs)
        if "x" not in "".join(map(str, args)):
            return file
        step("opened")
        write = file.write

        class Half:
            """A file that may end in the middle of a write."""

            def __enter__(self) -> "Half":
                return self

            def __exit__(self, *_: Any) -> None:
                file.close()

            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

            def write(self, content: Any) -> int:
                write(content[: len(content) // 2])
                file.flush()
                step("half written")
                return write(content[len(content) // 2 :])

        return Half()

    with patch.context() as here:
        here.setattr(Path, "open", opened)
        here.setattr(os, "fsync", around("fsync", os.fsync))
        here.setattr(os, "replace", around("replace", os.replace))
        here.setattr(Path, "unlink", around("unlink", Path.unlink))
        yield passed


def killed_at(patch: pytest.MonkeyPatch, at: int, act: Callable[[], None], hard: bool) -> bool:
    """Do `act` in a process that ends at boundary `at`; whether it came so far.

    `hard` is a real end, after which no `finally` runs, else an exception.
    """
    if not hard:

        def end() -> None:
            raise Killed

        try:
            with boundaries(patch, at, end):
                act()
        except Killed:
            return True
        return False
    child = os.fork()
    if child == 0:
        code = 1  # whatever happens, this process goes no further
        try:
            with boundaries(patch, at, lambda: os._exit(9)):
                act()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


@pytest.mark.parametrize("hard", [False, True], ids=["raised", "killed"])
@pytest.mark.parametrize(
    "before",
    [(), pytest.param((2,), marks=pytest.mark.long), (2, 4)],
    ids=["none", "one", "two"],
)
def test_a_kill_at_any_moment_leaves_a_good_checkpoint_with_its_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: tuple[int, ...], hard: bool
) -> None:
    for at in range(1, 200):
        store = Store(tmp_path / str(at))
        record = begun(store, *before)
        last = before[-1] if before else 0

        def act(record: Record = record, last: int = last) -> None:
            record.add_epochs([row(last + 1), row(last + 2)], payload(last + 2))

        came = killed_at(monkeypatch, at, act, hard)
        kept = record.checkpoint()
        good = {payload(last + 2), payload(last) if before else None}
        assert kept in (good if came else {payload(last + 2)})
        visible = {path.name for path in record.folder.iterdir() if path.suffix != ".part"}
        assert visible <= {
            "spec.json",
            "metrics.jsonl",
            "checkpoint.pt",
            "checkpoint.previous.pt",
        }
        for path in record.checkpoint_paths:
            assert not path.exists() or unpack(path.read_bytes()) is not None
        assert read_rows(record.folder / "metrics.jsonl")[1] == 0
        assert not check_record(store.record(record.id))
        left = stale_part_files(store.root)
        assert len(left) <= hard
        for path in left:
            path.unlink()
        assert not list(record.folder.glob(".*.part"))
        go_on(record, last + 3)
        if not came:
            break
    # Two whole writes, each with an open, a write, two fsyncs and a rename, at the least.
    assert at > 14


def test_a_torn_checkpoint_never_pushes_out_the_good_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(1, 200):
        record = begun(Store(tmp_path / str(at)), 2, 4)
        record.checkpoint_paths[0].write_bytes(b"torn")

        def act(record: Record = record) -> None:
            record.add_epochs([row(3), row(4), row(5)], payload(5))

        came = killed_at(monkeypatch, at, act, hard=False)
        assert record.checkpoint() in ({payload(2), payload(5)} if came else {payload(5)})
        go_on(record, 6)
        if not came:
            break
    assert at > 14


def test_a_kill_while_finishing_and_scoring_goes_on_or_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(1, 200):
        store = Store(tmp_path / str(at))
        record = begun(store, 1, 2)

        def act(record: Record = record) -> None:
            record.finish({"state": "done", "epochs": 2}, WEIGHTS)
            record.score({"last": {}}, ARRAYS)

        came = killed_at(monkeypatch, at, act, hard=True)
        assert not check_record(store.record(record.id))
        if record.result is None:
            assert record.checkpoint() == payload(2)
            record.finish({"state": "done", "epochs": 2}, WEIGHTS)
        assert record.state_dict() == WEIGHTS
        if record.test is None:
            record.score({"last": {}}, ARRAYS)
        assert record.predictions().keys() == ARRAYS.keys()
        if not came:
            break
    assert at > 25


def test_parts_in_use_are_no_leftovers(store: Store) -> None:
    code = (
        "import sys; from pathlib import Path; from kdbench.records.files import atomic_open\n"
        "with atomic_open(Path(sys.argv[1]), 3) as file:\n"
        "    file.write(b'abc'); file.flush(); print('in', flush=True); sys.stdin.read()"
    )
    path = store.root / "runs" / "output_cache" / "0123456789ab.npy"
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        (part,) = path.parent.glob(".*.part")
        assert stale_part_files(store.root) == []
        other.kill()
    assert stale_part_files(store.root) == [part]
    # Those of kdbench 0.1, and what only looks like one.
    for name in (".spec.json.12.part", "0123456789ab.part", ".test.part.npz", "film.part"):
        (path.parent / name).write_bytes(b"")
    assert [p.name for p in stale_part_files(store.root) if p != part] == [
        ".spec.json.12.part",
        ".test.part.npz",
        "0123456789ab.part",
    ]


def test_two_writers_of_one_file_do_not_share_a_part(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_open(path, 1) as one, atomic_open(path, 1) as other:
        one.write(b"1")
        other.write(b"2")
    assert path.read_bytes() == b"1"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


# -- damaged files


def spoil(record: Record, name: str, content: bytes) -> None:
    (record.folder / name).write_bytes(content)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("sound"))
    finished(store).fail({"message": "once"})
    assert check_record(store.record(SPEC.id)) == []
    return store


@pytest.mark.parametrize("name", READERS)
@given(content=st.binary(max_size=200) | st.sampled_from([b"", b"[1]", b"null", b"[" * 99999]))
@settings(deadline=None, max_examples=40)
def test_garbage_in_a_file_is_a_damaged_record(sound: Store, name: str, content: bytes) -> None:
    record = sound.record(SPEC.id)
    before = (record.folder / name).read_bytes()
    try:
        spoil(record, name, content)
        with pytest.raises(CorruptRecord, match="kdbench doctor") as caught:
            READERS[name](record)
        assert str(record.folder / name) in str(caught.value)
        assert any(fault.startswith(name) for fault in check_record(sound.record(SPEC.id)))
    finally:
        spoil(record, name, before)


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_a_file_cut_or_changed_is_read_or_a_damaged_record(
    sound: Store, name: str, data: st.DataObject
) -> None:
    record = sound.record(SPEC.id)
    before = (record.folder / name).read_bytes()
    at = data.draw(st.integers(0, len(before) - 1))
    byte = data.draw(st.binary(max_size=1))
    try:
        spoil(record, name, before[:at] + (byte + before[at + 1 :] if byte else b""))
        check_record(sound.record(SPEC.id))
        try:
            READERS[name](record)
        except CorruptRecord:
            assert check_record(sound.record(SPEC.id))
    finally:
        spoil(record, name, before)


@pytest.mark.parametrize("name", READERS)
def test_a_folder_in_a_files_place_is_a_fault(store: Store, name: str) -> None:
    record = finished(store)
    path = record.folder / name
    path.unlink(missing_ok=True)
    path.mkdir()
    with pytest.raises(CorruptRecord) as caught:
        READERS[name](record)
    assert caught.value.path == path
    assert [fault for fault in check_record(record) if fault.startswith(name)]


@pytest.mark.parametrize(
    ("name", "fault"),
    [("weights.safetensors", "missing"), ("test.npz", "missing"), ("spec.json", "missing")],
)
def test_a_missing_file_is_a_fault(store: Store, name: str, fault: str) -> None:
    record = finished(store)
    (record.folder / name).unlink()
    (found,) = check_record(store.record(record.id))
    assert found.startswith(name)
    assert fault in found


def test_what_a_kill_leaves_is_no_fault(store: Store) -> None:
    record = finished(store)
    (record.folder / "test.json").unlink()
    assert check_record(store.record(record.id)) == []
    (record.folder / "result.json").unlink()
    assert check_record(store.record(record.id)) == []
    assert check_record(store.record("0" * 12)) == []
    with store.record("0" * 12).writing():
        assert check_record(store.record("0" * 12)) == []


def test_a_damaged_spec_is_not_trained_upon(store: Store) -> None:
    record = begun(store)
    spoil(record, "spec.json", b"{")
    with pytest.raises(CorruptRecord):
        record.begin(SPEC)


# -- formats


def test_results_have_their_format_and_older_ones_are_told_apart(store: Store) -> None:
    record = finished(store)
    path = record.folder / "result.json"
    raw = json.loads(path.read_bytes())
    del raw["sha256"], raw["sha256_of_files"]  # no older version wrote them
    assert raw.pop("format") == RECORD_FORMAT == 2
    assert record.result == raw
    for older in (raw, raw | {"format": 1}):
        write_json(path, older)
        with pytest.raises(OtherFormat, match="written by an older kdbench") as caught:
            _ = record.result
        assert "doctor" not in str(caught.value)
        (fault,) = check_record(store.record(record.id))
        assert "older kdbench (format" in fault


def test_an_unfinished_record_of_an_older_format(store: Store) -> None:
    record = begun(store, 1)
    spec = json.loads(SPEC.canonical())
    write_json(record.folder / "spec.json", spec | {"knobs": spec.pop("hparams")})
    (fault,) = check_record(store.record(record.id))
    assert "older kdbench" in fault


def test_a_newer_record_is_told_apart_from_a_damaged_one(store: Store) -> None:
    record = finished(store)
    write_json(record.folder / "result.json", {"format": 3, "how": "unheard of"})
    spoil(record, "test.json", b"other")
    says = r"written by a newer kdbench \(format 3; this one reads 2\): upgrade kdbench"
    with pytest.raises(OtherFormat, match=says) as caught:
        _ = record.result
    assert "doctor" not in str(caught.value)
    (fault,) = check_record(store.record(record.id))
    assert "newer" in fault


# -- quarantine


def test_quarantine_keeps_every_byte(store: Store) -> None:
    places = []
    for number in range(3):
        record = finished(store)
        spoil(record, "spec.json", b"garbage %d" % number)
        before = {p.name: p.read_bytes() for p in record.folder.iterdir()}
        place = store.quarantine(record.id, "spec.json: it is not JSON")
        after = {p.name: p.read_bytes() for p in place.iterdir()}
        assert after.pop("quarantine.txt") == b"spec.json: it is not JSON\n"
        assert after == before | {".lock": b""}
        assert store.ids() == []
        places.append(place.relative_to(store.root / "runs" / "quarantine").as_posix())
    assert places == [SPEC.id, f"{SPEC.id}-2", f"{SPEC.id}-3"]
    assert len(list((store.root / "runs" / "quarantine").iterdir())) == 3
    finished(store)
    assert check_record(store.record(SPEC.id)) == []


def test_a_record_in_use_is_not_moved(store: Store) -> None:
    record = begun(store, 1)
    with record.writing(), pytest.raises(RecordBusy):
        store.quarantine(record.id, "why")
    assert store.ids() == [record.id]
    with pytest.raises(FileNotFoundError, match="no record of run"):
        store.quarantine("0" * 12, "why")
    assert store.ids() == [record.id]


def test_only_records_have_ids(store: Store) -> None:
    assert store.ids() == []
    for name in (
        "plans",
        "output_cache",
        "quarantine",
        ".0123456789ab.part",
        "0123456789abc",
        "ba9876543210",
    ):
        (store.root / "runs" / name).mkdir(parents=True)
    (store.root / "runs" / "0123456789ab").write_text("a file")
    assert store.ids() == ["ba9876543210"]


# -- disks


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("at", ["fsync", "replace"])
def test_a_full_disk_is_said_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, at: str
) -> None:
    def full(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    path = tmp_path / "file.json"
    atomic_write(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, at, full)
        with pytest.raises(DiskFull, match=r"12,345 bytes .* free in .* start again") as caught:
            atomic_write(path, b"x" * 12345)
    assert str(path) in str(caught.value)
    assert caught.value.errno == code
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


def mount(*options: str) -> None:
    done = subprocess.run(["mount", *options], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    if shutil.which("mount") is None:
        pytest.skip("there is no mount command")
    folder = tmp_path / "small"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=64k", "none", str(folder))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(small: Path) -> None:
    record = begun(Store(small), 1)
    with pytest.raises(DiskFull, match="70,0"):
        record.add_epochs([row(2)], b"x" * 70000)
    assert record.checkpoint() == payload(1)
    with pytest.raises(DiskFull):
        record.finish({"state": "done"}, b"w" * 70000)
    assert record.result is None
    record.add_epochs([row(2)], payload(2))
    record.finish({"state": "done", "epochs": 2}, WEIGHTS)
    noise = np.random.default_rng(0).random((100, 200))
    with pytest.raises(DiskFull):
        record.score({"last": {}}, ARRAYS | {"best": noise})
    assert record.test is None
    record.score({"last": {}}, ARRAYS)
    assert check_record(record) == []
    assert not list(small.rglob("*.part"))


def test_a_read_only_disk_names_the_file(small: Path) -> None:
    record = begun(Store(small), 1)
    mount("-o", "remount,ro", str(small))
    with pytest.raises(OSError, match=r"Read-only file system: '.*/checkpoint.pt'"):
        record.add_epochs([], payload(1))
    with pytest.raises(OSError, match=r"Read-only file system: '.*/new/file'"):
        atomic_write(small / "new" / "file", b"")
    assert record.checkpoint() == payload(1)
    assert check_record(record) == []


def test_a_folder_one_may_not_write_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *_: Any) -> None:
        raise PermissionError(errno.EACCES, "denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError, match=f"Permission denied: '{tmp_path}/file'"):
        atomic_write(tmp_path / "file", b"")


@pytest.mark.parametrize("shift", [-(10**9), 10**9], ids=["set back", "set ahead"])
def test_the_clock_decides_nothing(store: Store, shift: int) -> None:
    record = begun(store, 2, 4)
    newest, before = record.checkpoint_paths
    now = time.time()
    os.utime(newest, (now + shift, now + shift))
    os.utime(before, (now - shift, now - shift))
    assert record.checkpoint() == payload(4)
    record.add_epochs([row(5)], payload(5))
    newest.unlink()
    assert record.checkpoint() == payload(4)


# -- tables of frozen networks


def test_a_table_that_is_not_whole_is_filled_again(empty_world: Any, world: Any) -> None:
    run_id = next(iter(world.job("kd").spec.frozen_runs.values()))
    old, new = (w.store.record(run_id) for w in (world, empty_world))
    new.begin(old.spec())
    new.finish(old.result, old.weights_path.read_bytes())
    store, data = empty_world.store, empty_world.data

    def teacher() -> TeacherNetwork:
        return TeacherNetwork(store, run_id, "last", data, Views(data))

    every = torch.arange(len(data.labels))
    right = teacher().cached(every, ())
    (path,) = store.output_cache.glob("*.npy")
    content = path.read_bytes()
    assert np.array_equal(np.load(path), right.logits.numpy())
    for bad in (b"", content[:50], content[:-4], content + b"\0", b"\0" * len(content)):
        path.write_bytes(bad)
        assert torch.equal(teacher().cached(every, ()).logits, right.logits)
        assert path.read_bytes() == content
    np.save(path, right.logits.numpy().astype(np.float64)[: len(every) // 2])
    assert torch.equal(teacher().cached(every, ()).logits, right.logits)
    assert [p.name for p in store.output_cache.iterdir() if p.suffix != ".lock"] == [path.name]

    # A filler that was killed leaves a part, which stands in nobody's way and is found.
    path.unlink()
    child = os.fork()
    if child == 0:
        try:
            frozen.TeacherNetwork.live = lambda *_: os._exit(9)  # type: ignore[method-assign]
            teacher().cached(every, ())
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    (part,) = stale_part_files(store.root)
    assert part.parent == store.output_cache
    assert torch.equal(teacher().cached(every, ()).logits, right.logits)

    # Other weights under the same id, as a teacher trained again on a GPU may have.
    tensors = load_tensors(new.state_dict())
    tensors = {k: v + 1 if v.dtype == np.float32 else v for k, v in tensors.items()}
    new.finish(old.result, save_tensors(tensors))
    assert not torch.equal(teacher().cached(every, ()).logits, right.logits)
    new.weights_path.write_bytes(content)
    with pytest.raises(CorruptRecord, match=r"weights\.safetensors"):
        load_student(store, run_id, "last", data)
    new.finish(old.result, save_tensors({"last/other": np.zeros(1, np.float32)}))
    with pytest.raises(CorruptRecord, match=r"weights\.safetensors"):
        load_student(store, run_id, "last", data)
