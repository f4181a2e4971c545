"""Whole studies on broken ground: a full disk, a read-only folder, a process that is stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from support import crash

from kdbench.data.load import TrainingData
from kdbench.execution.driver import StudyDriver
from kdbench.execution.engines.inline import InlineEngine
from kdbench.execution.engines.protocol import WorkerSettings
from kdbench.records.store import Store
from kdbench.study import Planner
from kdbench.study.load import parse_study
from kdbench.tracking.optuna_log import OptunaLog

Mount = Callable[[str], Path]


class Nobody:
    """Neither MLflow nor a person."""

    def touch(self, *_: object) -> None: ...
    def plan(self, *_: object) -> None: ...
    def log(self, *_: object) -> None: ...


def sweep(root: Path, digits: TrainingData) -> StudyDriver:
    store, ear = Store(root), Nobody()
    planner = Planner(parse_study(crash.SMALLEST, "crash"), digits, store)
    engine = InlineEngine(WorkerSettings(root, "digits", None, "cpu"))
    return StudyDriver(planner, store, engine, ear, ear, OptunaLog(root), "cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """A small file system of its own: `mount("size=100k")`, again with `remount,...`."""
    place = tmp_path / "small"
    place.mkdir()

    def make(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("this user may not mount a small file system")
        return place

    try:
        yield make
    finally:
        subprocess.run(["umount", str(place)], capture_output=True)


def test_a_full_disk_stops_cleanly_and_the_next_start_goes_on(
    mount: Mount, digits: TrainingData
) -> None:
    root = mount("size=600k")
    with pytest.raises(OSError, match="free"):
        sweep(root, digits).run()
    kept = {p: p.read_bytes() for p in root.glob("runs/*/result.json")}
    assert not list(root.rglob("*.part"))
    mount("remount,size=60m")
    assert sweep(root, digits).run()["complete"]
    assert all(path.read_bytes() == content for path, content in kept.items())


def test_a_read_only_folder_is_one_message(mount: Mount, tmp_path: Path) -> None:
    root = mount("size=10m")
    mount("remount,ro")
    (tmp_path / "crash.yaml").write_text(crash.SMALLEST)
    words = ["study", str(tmp_path / "crash.yaml"), "--root", str(root)]
    done = subprocess.run(
        [sys.executable, "-m", "kdbench", *words],
        env=crash.environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert str(root) in done.stderr
    assert "ead-only" in done.stderr


def test_a_stopped_process_keeps_its_run_and_nothing_is_trained_twice(
    tmp_path: Path, reference_root: Path
) -> None:
    """SIGSTOP has no time limit: its locks stay, others wait, and it goes on as if nothing
    had been."""
    here = tmp_path / "shared"
    here.mkdir()
    (here / "crash.yaml").write_text(crash.STUDY)
    root = here / "root"
    first = crash.start(root, workers=1)
    while not any(root.glob("runs/*/checkpoint.pt")) and not crash.finished(root):
        time.sleep(0.02)
        assert first.poll() is None, (here / "log.txt").read_text()
    os.killpg(first.pid, signal.SIGSTOP)
    second = crash.start(root, workers=1)
    try:
        time.sleep(12)
        seen = crash.finished(root)
        assert second.poll() is None  # it waits for what the first one has
    finally:
        os.killpg(first.pid, signal.SIGCONT)
    assert first.wait(timeout=300) == 0
    assert second.wait(timeout=300) == 0
    assert list(crash.broken(root, reference_root, seen)) == []
