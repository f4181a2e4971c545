"""A study on a Ray cluster whose actors, nodes and driver are killed: does it come out the same?

    PYTHONPATH=tests python -m support.ray_kills --kills 10

The nodes do not use the study's root. Prints what was tried and every promise that was broken;
exit code 1 if there is one.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from support import crash
from support.ray_cluster import RayCluster, environment

KINDS = ("actor", "node", "driver")


def start(here: Path, cluster: RayCluster) -> subprocess.Popen[bytes]:
    """Start a driver of the crash test's study."""
    words = [*crash.command(here / "root", 2), "--engine", "ray", "--address", cluster.address]
    with (here / "log.txt").open("ab") as log:
        return subprocess.Popen(
            words, env=environment(), stdout=log, stderr=log, start_new_session=True
        )


def strike(
    kind: str, draw: random.Random, cluster: RayCluster, driver: subprocess.Popen[bytes]
) -> bool:
    """Kill one thing of a kind; whether there was one."""
    if kind == "actor":
        if not (actors := cluster.actors()):
            return False
        os.kill(draw.choice(actors), signal.SIGKILL)
    elif kind == "node":
        cluster.kill_node(1)
        cluster.add_node()
    else:
        crash.kill(driver)
    return True


def disturb(
    home: Path, whole: Path, kills: int, seed: int = 0, longest: float = 8.0
) -> tuple[Counter[str], list[str]]:
    """Kill so often, study after study, each carried to its end and held to `whole`, one that
    nobody disturbed; how often each kind was killed, and the promises that were broken."""
    draw, tally = random.Random(seed), Counter[str]()
    faults: list[str] = []
    cluster = RayCluster(home)
    try:
        cluster.add_node()
        cluster.add_node()
        number = 0
        while tally.total() < kills:
            here = home / f"disturbed-{number}"
            here.mkdir()
            (here / "crash.yaml").write_text(crash.STUDY)
            faults += _one(here, whole, kills, draw, cluster, longest, tally)
            number += 1
            print(f"{dict(tally)} over {number} studies, {faults}", flush=True)
    finally:
        cluster.stop()
    return tally, faults


def _one(
    here: Path,
    whole: Path,
    kills: int,
    draw: random.Random,
    cluster: RayCluster,
    longest: float,
    tally: Counter[str],
) -> list[str]:
    root, faults = here / "root", []
    seen: dict[str, str] = {}
    driver = start(here, cluster)
    while tally.total() < kills:
        time.sleep(draw.uniform(2.0, longest))
        if driver.poll() is not None:
            break
        kind = min(KINDS, key=lambda kind: (tally[kind], draw.random()))
        if not strike(kind, draw, cluster, driver):
            continue
        tally[kind] += 1
        seen = crash.finished(root) | seen
        if kind == "driver":
            driver = start(here, cluster)
    if code := driver.wait(timeout=900):
        faults.append(f"exit code {code}: {(here / 'log.txt').read_text()[-2000:]}")
        return faults
    return faults + list(crash.broken(root, whole, seen))


def main() -> int:
    """Run what the command line asks for; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kdbench-ray-kills-") as folder:
        began = time.monotonic()
        whole = crash.reference(Path(folder) / "whole")
        tally, faults = disturb(Path(folder), whole, args.kills, args.seed)
        minutes = (time.monotonic() - began) / 60
    print(f"{tally.total()} kills {dict(tally)} in {minutes:.0f} minutes: {len(faults)} broken")
    for fault in faults:
        print(f"  {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
