"""Whole studies on broken ground: a full disk, a read-only folder, a suspended process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import crash
from support.inline_study import InlineStudy

Mount = Callable[[str], Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """A small file system of its own: `mount("size=100k")`, again with `remount,...`."""
    folder = tmp_path / "small"
    folder.mkdir()

    def make(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("this user may not mount a small file system")
        return folder

    try:
        yield make
    finally:
        if folder.is_mount():
            # Lazily: this process may still have a file of it open, or mapped.
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_stops_cleanly_and_the_next_start_goes_on(
    mount: Mount, study: InlineStudy
) -> None:
    root = study.root = mount("size=600k")
    study.text = crash.SMALLEST
    with pytest.raises(OSError, match="free"):
        study.run()
    kept = {p: p.read_bytes() for p in root.glob("runs/*/result.json")}
    assert not list(root.rglob("*.part"))
    mount("remount,size=60m")
    assert study.run()[0].complete
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


@pytest.mark.long
def test_a_suspended_process_keeps_its_run_and_nothing_is_trained_twice(
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
