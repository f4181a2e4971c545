"""Which worker has which run, as `kdbench status` is told."""

import os
import socket
import subprocess
import sys

import pytest

from kdbench.records.workers import WorkersFile, workers_by_run


@pytest.fixture
def plan(tmp_path):
    return tmp_path / "study.json"


def test_what_is_done_now_is_what_is_read(plan):
    file = WorkersFile(plan)
    file.write({"a:1": ("run-1", "run-2"), "b:2": ("run-3",)})
    assert workers_by_run(plan) == {"run-1": "a:1", "run-2": "a:1", "run-3": "b:2"}
    file.write({"b:2": ("run-3",)})
    assert workers_by_run(plan) == {"run-3": "b:2"}
    assert workers_by_run(plan.with_name("another.json")) == {}
    file.write({})
    assert list(plan.parent.iterdir()) == []
    assert workers_by_run(plan) == {}


def test_two_processes_have_a_file_each(plan):
    other = plan.with_name("study.elsewhere-1.workers")
    other.write_text('{"elsewhere:7": ["run-9"]}')
    file = WorkersFile(plan)
    file.write({"a:1": ("run-1",)})
    assert workers_by_run(plan) == {"run-1": "a:1", "run-9": "elsewhere:7"}
    file.write({})
    assert other.exists()


def test_the_file_of_a_process_that_was_killed_goes_with_the_next_start(plan):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = socket.gethostname()
    left = plan.with_name(f"study.{host}-{dead.pid}.workers")
    alive = plan.with_name(f"study.{host}-{os.getppid()}.workers")
    for path in (left, alive):
        path.write_text('{"a:1": ["run-1"]}')
    WorkersFile(plan)
    assert not left.exists()
    assert alive.exists()


@pytest.mark.parametrize("text", ["", "[]", "[1]", '{"a": 3}', "{", "\0"])
def test_a_damaged_file_says_nothing(plan, text):
    plan.with_name("study.elsewhere-1.workers").write_text(text)
    assert workers_by_run(plan) == {}
