"""Studies that are killed, again and again: does the leaderboard come out the same?

    python tests/support/crash.py random --kills 100    kill -9 of the group at random moments
    python tests/support/crash.py random --kills 40 --processes 4   one of four that share a study
    python tests/support/crash.py boundaries            at every boundary of a write and a rename

Each prints what was tried and every promise that was broken; exit code 1 if there is one.
"""

import argparse
import gc
import hashlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

STUDY = """
name: crash
question: Does it come out the same?
data:    {name: digits, validation: 200}
student: {model: digits-cnn-small}
teacher: {model: digits-cnn}
recipe:  {epochs: 3, batch: 64, lr: 2e-3}
methods: [ce, kd, dml, {method: ban, hparams: {temperature: 2.0, alpha: 0.5}}]
tune:    {trials: 3, epochs: 2, seeds: [100]}
final:   {seeds: [0, 1, 2]}
report:  {reference: ce}
"""
SMALLEST = """
name: crash
data:    {name: digits, validation: 200}
student: {model: digits-cnn-small}
teacher: {model: digits-cnn-small}
recipe:  {epochs: 2, batch: 256, lr: 2e-3}
methods: [ce, kd]
tune:    {trials: 2, epochs: 1, seeds: [100]}
final:   {seeds: [0]}
report:  {reference: ce}
"""
TABLES = ("leaderboard.csv", "runs.csv.gz", "curves.csv.gz", "trials.csv.gz", "confusions.csv.gz")


@dataclass
class Tally:
    """What was tried, and what was broken."""

    kills: int = 0
    studies: int = 0
    runs: int = 0
    broken: list[str] = field(default_factory=list)


def environment() -> dict[str, str]:
    """The test's own, without what would lead a study to another store or folder of data."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "KDBENCH_"))}
    paths = [str(Path(__file__).parents[1]), inherited.get("PYTHONPATH", "")]
    return {**inherited, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}


def command(root: Path, workers: int, program: str = "kdbench") -> list[str]:
    """The study as a person would run it."""
    words = ["study", str(root.parent / "crash.yaml"), "--root", str(root)]
    return [sys.executable, "-m", program, *words, "--workers", str(workers)]


def start(root: Path, workers: int, program: str = "kdbench") -> subprocess.Popen[bytes]:
    """Start the study in a process group of its own."""
    log = (root.parent / "log.txt").open("ab")
    return subprocess.Popen(
        command(root, workers, program),
        env=environment(), stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip


def kill(process: subprocess.Popen[bytes]) -> None:
    """kill -9 of the whole group."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def reference(home: Path, text: str = STUDY, workers: int = 2) -> Path:
    """The root of a study that nobody disturbed."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "crash.yaml").write_text(text)
    done = subprocess.run(
        command(home / "root", workers), env=environment(), capture_output=True, text=True
    )
    (home / "log.txt").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    return home / "root"


# -- the promises


def content(root: Path) -> dict[str, str]:
    """The report's tables without what was measured with a clock, as text."""
    texts = {}
    for name in TABLES:
        table = pd.read_csv(root / "reports" / "crash" / name)
        table = table[[c for c in table.columns if "measured" not in c]]
        if "metric" in table:
            table = table[~table["metric"].str.startswith("measured.")]
        texts[name] = table.to_csv(index=False)
    return texts


def finished(root: Path) -> dict[str, str]:
    """The digest of every result on disk, by run."""
    return {
        path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.glob("runs/*/result.json")
    }


def broken(root: Path, whole: Path, before: dict[str, str]) -> Iterator[str]:
    """Promises that a finished study in `root` breaks. `whole` is the undisturbed one's root,
    `before` the results that had been seen before kills."""
    now, expected = finished(root), finished(whole)
    for run in expected.keys() - now.keys():
        yield f"run {run} is lost"
    for run in now.keys() - expected.keys():
        yield f"run {run} belongs to no undisturbed study"
    for run, digest in before.items():
        if now.get(run) != digest:
            yield f"run {run} was finished and was trained again"
    texts, expected_texts = content(root), content(whole)
    for name in TABLES:
        if texts[name] != expected_texts[name]:
            yield f"{name} differs"
    yield from in_mlflow(root / "mlflow.db", set(expected))


def in_mlflow(database: Path, runs: set[str]) -> Iterator[str]:
    """What is wrong in MLflow's own tables."""
    with sqlite3.connect(f"file:{database}?mode=rw", uri=True) as db:
        active = "r.lifecycle_stage = 'active'"
        left = db.execute(
            f"SELECT r.name FROM runs r WHERE r.status = 'RUNNING' AND {active}"
        ).fetchall()
        yield from (f"MLflow: {name} is left RUNNING" for (name,) in left)
        tags = db.execute(
            "SELECT t.value, COUNT(*) FROM tags t JOIN runs r USING (run_uuid) "
            f"WHERE t.key = 'kdbench.id' AND {active} GROUP BY t.value"
        ).fetchall()
        yield from (f"MLflow: run {run} stands there {n} times" for run, n in tags if n > 1)
        yield from (f"MLflow: run {run} is missing" for run in runs - {run for run, _ in tags})
        twice = db.execute(
            "SELECT r.name, m.key, m.step, COUNT(*) FROM metrics m JOIN runs r USING (run_uuid) "
            # What is measured again or judged again replaces what stood there, as a later point.
            f"WHERE {active} AND m.key NOT LIKE 'cost/%' AND m.key NOT LIKE 'leaderboard/%' "
            "GROUP BY m.run_uuid, m.key, m.step HAVING COUNT(*) > 1"
        ).fetchall()
        for name, key, step, n in twice:
            yield f"MLflow: {name} has {key} of step {step} {n} times"


# -- at random moments


def at_random(
    home: Path, whole: Path, kills: int, processes: int = 1, seed: int = 0, longest: float = 9.0
) -> Tally:
    """Kill a study (one of `processes` that share it) until it was killed so often; study
    after study, each carried to its end and held to `whole`, one that nobody disturbed."""
    draw = random.Random(seed)
    tally = Tally(runs=len(finished(whole)))
    workers = 2 if processes == 1 else 1
    while tally.kills < kills or not tally.studies:
        here = home / f"killed-{tally.studies}"
        here.mkdir()
        shutil.copy(whole.parent / "crash.yaml", here)
        _one(here / "root", whole, kills, processes, workers, draw, longest, tally)
        tally.studies += 1
        print(f"{tally.kills} kills, {tally.studies} studies, {tally.broken}", flush=True)
        shutil.rmtree(here)
    return tally


def _one(
    root: Path,
    whole: Path,
    kills: int,
    processes: int,
    workers: int,
    draw: random.Random,
    longest: float,
    tally: Tally,
) -> None:
    seen: dict[str, str] = {}
    running = [start(root, workers) for _ in range(processes)]
    while not any(root.glob("runs/*/spec.json")):
        time.sleep(0.05)
        assert running[0].poll() is None, (root.parent / "log.txt").read_text()
    while tally.kills < kills:
        time.sleep(draw.uniform(0.0, longest) / processes)
        if all(p.poll() is not None for p in running):
            break
        victim = draw.choice([k for k, p in enumerate(running) if p.poll() is None])
        kill(running[victim])
        tally.kills += 1
        seen = finished(root) | seen  # the first that was seen is what must stay
        running[victim] = start(root, workers)
    for process in running:
        if process.wait(timeout=900):
            log = (root.parent / "log.txt").read_text()[-2000:]
            tally.broken.append(f"exit code {process.returncode}: {log}")
    tally.broken += broken(root, whole, seen)


# -- at every boundary of a write and a rename


#: What a study loads; once, for all children.
LOADED = (
    "kdbench.cli.study", "kdbench.report.check", "mlflow", "optuna", "torch", "pandas", "jinja2",
    "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.artifact.local_artifact_repo",
    "matplotlib.figure", "matplotlib.style", "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf", "matplotlib.backends.backend_svg", "scipy.stats",
    "scipy.optimize", "statsmodels.stats.multitest", "statsmodels.stats.weightstats",
    "sklearn.datasets", "torchmetrics.functional.classification",
)  # fmt: skip


class Boundaries:
    """Counts the driver's writes and renames, and kills the process before or after one."""

    CALLS = ("fsync", "replace", "rename", "link", "unlink")

    def __init__(self, at: int) -> None:
        self.at, self.count = at, 0
        for name in self.CALLS:
            setattr(os, name, self._watched(getattr(os, name)))

    def _watched(self, real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._pass()
            result = real(*args, **kwargs)
            self._pass()
            return result

        return call

    def _pass(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def at_boundaries(home: Path, first: int = 1, every: int = 1) -> Tally:
    """Kill the smallest study at each boundary of a write and a rename in turn (or, from the
    `first` on, at every second, third, ... only), start it again, and hold it to one that
    nobody disturbed.

    Children are forked from a process that has everything loaded, so a try takes about a
    second. MLflow's empty database is copied: making it is MLflow's own business.
    """
    for name in LOADED:
        import_module(name)
    sys.modules["torch"].set_num_threads(1)
    gc.freeze()  # a child's collections need not look at all this
    empty = _empty_store(home)
    whole = _prepared_root(home / "whole", empty)
    assert _child(whole, 0) == 0, (whole.parent / "log.txt").read_text()
    tally = Tally(runs=len(finished(whole)))
    at = first
    while True:
        root = _prepared_root(home / f"at-{at}", empty)
        code = _child(root, at)
        if code == 0:  # it came to its end before that boundary
            break
        if code > 0:  # nothing killed it
            tally.broken.append(f"boundary {at}: {(root.parent / 'log.txt').read_text()[-2000:]}")
            break
        tally.kills += 1
        seen = finished(root)
        if _child(root, 0):
            tally.broken.append(f"boundary {at}: {(root.parent / 'log.txt').read_text()[-2000:]}")
        else:
            tally.broken += [f"boundary {at}: {fault}" for fault in broken(root, whole, seen)]
        tally.studies += 1
        shutil.rmtree(root.parent)
        if tally.kills % 20 == 0:
            print(f"{at} boundaries, {tally.broken}", flush=True)
        at += every
    gc.unfreeze()
    return tally


def _prepared_root(home: Path, empty: Path) -> Path:
    """A root with an empty MLflow database, beside the smallest study."""
    root = home / "root"
    root.mkdir(parents=True)
    shutil.copy(empty, root / "mlflow.db")
    (home / "crash.yaml").write_text(SMALLEST)
    return root


def _empty_store(home: Path) -> Path:
    """An MLflow database without a run."""
    path = home / "empty.db"
    pid = os.fork()
    if not pid:
        try:
            sys.modules["mlflow"].MlflowClient(f"sqlite:///{path}").search_experiments()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return path


def _child(root: Path, at: int) -> int:
    """Run the study in a forked process that dies at boundary `at` (0: at none); its
    exit code, negative where it was killed."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        log = os.open(root.parent / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        for name in [n for n in os.environ if n.startswith(("MLFLOW_", "KDBENCH_"))]:
            del os.environ[name]
        from rich.console import Console

        from kdbench.cli.progress import ProgressBar
        from kdbench.cli.study import run_and_report
        from kdbench.execution.run_study import Options

        _skip_what_writes_nothing()
        Boundaries(at)
        options = Options(str(root.parent / "crash.yaml"), root, workers=1, engine="inline")
        code = run_and_report(options, ProgressBar(Console()))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _skip_what_writes_nothing() -> None:
    """Draw one blank figure, and do not measure what a step costs: both take time and write
    nothing of interest."""
    from kdbench.execution.engines import worker

    cost = {"relative": 1.0, "peak_mb": 1.0, "seconds_per_step": 1.0, "steps": 1}
    assert hasattr(worker, "measure_costs")
    worker.measure_costs = lambda specs, *_: dict.fromkeys(specs, cost)
    leave_figures_out()


def leave_figures_out() -> None:
    """Replace all figures by a blank one."""
    from kdbench.report import write
    from kdbench.report.figures import Drawn

    blank = {"blank": b"."}
    assert hasattr(write, "draw_figures")
    write.draw_figures = lambda *_: Drawn({}, blank, blank, {})


# -- by hand


def main() -> int:
    """Run what the command line asks for; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("random", "boundaries"))
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=1, help="of the boundaries")
    parser.add_argument("--every", type=int, default=1, help="step between boundaries")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kdbench-crash-") as folder:
        began = time.monotonic()
        if args.what == "random":
            whole = reference(Path(folder) / "whole")
            tally = at_random(Path(folder), whole, args.kills, args.processes, args.seed)
        else:
            tally = at_boundaries(Path(folder), args.first, args.every)
        minutes = (time.monotonic() - began) / 60
    print(
        f"{tally.kills} kills over {tally.studies} studies of {tally.runs} runs in {minutes:.0f} "
        f"minutes: {len(tally.broken)} promises broken"
    )
    for fault in tally.broken:
        print(f"  {fault}")
    return 1 if tally.broken else 0


if __name__ == "__main__":
    sys.exit(main())
