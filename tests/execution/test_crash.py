"""Short forms of the crash test, which `make crash-test` runs at length."""

import subprocess
import sys
from pathlib import Path

import pytest
from support import crash, mixed_kills


def test_a_study_that_is_stopped_in_several_ways_comes_out_the_same(
    tmp_path: Path, reference_root: Path
) -> None:
    kinds = ("group", "SIGTERM", "SIGINT twice")
    tally = mixed_kills.disturb(
        tmp_path,
        reference_root,
        3,
        kinds=kinds,
        longest=4.0,
        program="support.undrawn",
        tuned=True,
    )
    assert tally.kills == dict.fromkeys(kinds, 1)
    assert tally.broken == []


@pytest.mark.long
def test_a_study_that_is_killed_at_a_random_moment_comes_out_the_same(
    tmp_path: Path, reference_root: Path
) -> None:
    tally = crash.at_random(tmp_path, reference_root, kills=1, seed=1)
    assert tally.kills == 1
    assert tally.broken == []


@pytest.mark.long
def test_two_processes_share_a_study_and_one_is_killed(
    tmp_path: Path, reference_root: Path
) -> None:
    tally = crash.at_random(tmp_path, reference_root, kills=1, processes=2, seed=2)
    assert tally.broken == []


def test_a_study_that_is_killed_between_writes_comes_out_the_same() -> None:
    """In a process of its own, since its children are forked."""
    command = [sys.executable, crash.__file__, "boundaries", "--first", "100", "--every", "300"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.splitlines()[-1].split()[0]) >= 2
