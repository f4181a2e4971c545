"""A study that is stopped in every way that people and systems have: does it come out the same?

    PYTHONPATH=tests python -m support.mixed_kills --kills 200

Between starts the study is edited (methods and seeds taken out and put back), the number of
workers changes, and one or two processes share it. Prints what was tried and every promise that
was broken; exit code 1 if there is one.
"""

import argparse
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from support import crash

#: The study without some of its methods and seeds: every run of it is one of the whole study's.
EDITED = crash.STUDY.replace("methods: [ce, kd, dml,", "methods: [ce, kd,").replace(
    "final:   {seeds: [0, 1, 2]}", "final:   {seeds: [0, 2]}"
)

#: The ways to end a process, or a part of it.
KINDS = ("group", "driver", "worker", "server", "SIGTERM", "SIGINT twice", "SIGHUP", "SIGSTOP")

#: Seconds within which a study that was asked to stop has ended.
STOP_LIMIT = 60.0


@dataclass
class Tally:
    """What was tried, how long the longest stop took in seconds, and what was broken."""

    kills: Counter[str] = field(default_factory=Counter)
    studies: int = 0
    runs: int = 0
    longest_stop: float = 0.0
    broken: list[str] = field(default_factory=list)
    #: Drivers whose worker was killed: a run that was alone in it has failed in that start.
    hurt: set[int] = field(default_factory=set)


def processes_of(driver: subprocess.Popen[bytes]) -> Iterator[tuple[int, int, str]]:
    """Id, parent and command line of every process of the driver's session."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            line = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # it has ended meanwhile
        if int(stat[3]) == driver.pid and stat[0] != "Z":
            yield int(folder.name), int(stat[1]), line


def victims(driver: subprocess.Popen[bytes], kind: str) -> list[int]:
    """The fork server, or the workers that it has forked."""
    servers = {pid: parent for pid, parent, line in processes_of(driver) if "forkserver" in line}
    if kind == "server":
        return [pid for pid, parent in servers.items() if parent == driver.pid]
    return [pid for pid, parent in servers.items() if parent in servers]


def strike(
    driver: subprocess.Popen[bytes], kind: str, draw: random.Random, tally: Tally, log: Path
) -> bool:
    """End the study or a part of it in one of `KINDS`; whether there was anything to end."""
    if kind in ("worker", "server"):
        found = victims(driver, kind)
        if not found:
            return False
        os.kill(draw.choice(found), signal.SIGKILL)
        tally.hurt.add(driver.pid)
    elif kind == "group":
        crash.kill(driver)
    elif kind == "driver":
        driver.kill()
        driver.wait()
    elif kind == "SIGSTOP":
        os.killpg(driver.pid, signal.SIGSTOP)
        time.sleep(draw.uniform(0.5, 2.0))
        os.killpg(driver.pid, signal.SIGCONT)
    else:
        number = signal.Signals[kind.split()[0]]
        began = time.monotonic()
        for _ in range(2 if "twice" in kind else 1):
            os.killpg(driver.pid, number)
            time.sleep(0.2)
        code = driver.wait(timeout=STOP_LIMIT)
        tally.longest_stop = max(tally.longest_stop, time.monotonic() - began)
        # It may have come to its end just before the signal, and then says which runs failed.
        ended = {0, 1} if driver.pid in tally.hurt else {0}
        if number != signal.SIGHUP and code not in {130, *ended}:
            tally.broken.append(f"{kind}: exit code {code}: {log.read_text()[-2000:]}")
        tally.broken += [f"{kind}: left {line}" for line in survivors(driver)]
    return True


def survivors(driver: subprocess.Popen[bytes]) -> list[str]:
    """What still runs of a driver's session half a minute after the driver has ended."""
    deadline = time.monotonic() + 30
    while (left := [line for _, _, line in processes_of(driver)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def disturb(
    home: Path,
    whole: Path,
    kills: int,
    seed: int = 0,
    kinds: tuple[str, ...] = KINDS,
    longest: float = 9.0,
    program: str = "kdbench",
    tuned: bool = False,
) -> Tally:
    """Stop studies until that has been done `kills` times, each study carried to its end and
    held to `whole`, one that nobody disturbed. With `tuned` its tuning has ended already."""
    draw = random.Random(seed)
    tally = Tally(runs=len(crash.finished(whole)))
    waiting: list[str] = []
    while tally.kills.total() < kills:
        here = home / f"disturbed-{tally.studies}"
        here.mkdir()
        if tuned:
            copy_trials(whole, here / "root")
        _one(here, whole, kills, draw, kinds, waiting, longest, program, tally)
        tally.studies += 1
        print(f"{tally.kills.total()} kills, {tally.studies} studies, {tally.broken}", flush=True)
        shutil.rmtree(here)
    return tally


def copy_trials(whole: Path, root: Path) -> None:
    """The records of the runs that are not scored on test images: those of the tuning."""
    for result in whole.glob("runs/*/result.json"):
        if not result.with_name("test.json").exists():
            shutil.copytree(result.parent, root / "runs" / result.parent.name)


def _one(
    here: Path,
    whole: Path,
    kills: int,
    draw: random.Random,
    kinds: tuple[str, ...],
    waiting: list[str],
    longest: float,
    program: str,
    tally: Tally,
) -> None:
    root, study = here / "root", here / "crash.yaml"
    seen: dict[str, str] = {}
    running: list[subprocess.Popen[bytes]] = []
    while tally.kills.total() < kills:
        if not running:
            study.write_text(draw.choice((crash.STUDY, EDITED)))
            workers = draw.choice((1, 2))
            running = [crash.start(root, workers, program) for _ in range(draw.choice((1, 1, 2)))]
        time.sleep(draw.uniform(1.0, longest))
        running = [process for process in running if process.poll() is None]
        if not running:
            break
        if not waiting:
            waiting += draw.sample(kinds, len(kinds))
        driver, kind = draw.choice(running), waiting.pop()
        if not strike(driver, kind, draw, tally, here / "log.txt"):
            waiting.insert(0, kind)
            continue
        tally.kills[kind] += 1
        seen = crash.finished(root) | seen
        running = [process for process in running if process.poll() is None]
    for process in running:
        process.wait(timeout=900)
    for text, check in ((EDITED, left_running), (crash.STUDY, None)):
        study.write_text(text)
        process = crash.start(root, 2, program)
        if process.wait(timeout=900):
            log = (here / "log.txt").read_text()[-2000:]
            tally.broken.append(f"exit code {process.returncode}: {log}")
        if check:
            tally.broken += check(root)
    tally.broken += crash.broken(root, whole, seen)


def left_running(root: Path) -> list[str]:
    """The runs that MLflow shows as running though nobody trains, dropped ones included."""
    with sqlite3.connect(f"file:{root / 'mlflow.db'}?mode=rw", uri=True) as database:
        names = database.execute("SELECT name FROM runs WHERE status = 'RUNNING'").fetchall()
    return [f"MLflow: {name} is left RUNNING after an edit" for (name,) in names]


def main() -> int:
    """Run what the command line asks for; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kdbench-kills-") as folder:
        began = time.monotonic()
        whole = crash.reference(Path(folder) / "whole")
        tally = disturb(Path(folder), whole, args.kills, args.seed)
        minutes = (time.monotonic() - began) / 60
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(tally.kills.items()))
    print(
        f"{tally.kills.total()} kills ({kinds}) over {tally.studies} studies of {tally.runs} runs "
        f"in {minutes:.0f} minutes, longest stop {tally.longest_stop:.1f} s: "
        f"{len(tally.broken)} promises broken"
    )
    for fault in tally.broken:
        print(f"  {fault}")
    return 1 if tally.broken else 0


if __name__ == "__main__":
    sys.exit(main())
