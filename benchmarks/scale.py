"""What grows with the number of workers, and with the number of runs.

    python benchmarks/scale.py [engines growth]

- engines: the digits study with 5 seeds and without tuning by one and two workers of each engine,
  Ray's also on a node that is sent everything: seconds until the first message and until the last
  run, the share of that time in which a worker had no task, and bytes sent and received a run
- growth: planning, the first start (which logs all runs in MLflow), the start of a finished study,
  status, report, and the sizes of the page and of MLflow's database, for 100, 1,000 and 10,000
  finished runs; the records are copies of ten runs' with other seeds

Wants a machine with nothing else to do. Every measurement of `growth` is a process of its own, and
every one of `engines` has a root of its own.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from kdbench.execution.engines import ENGINES
from kdbench.execution.engines.protocol import EngineOptions, Message, Task, WorkerSettings
from kdbench.execution.protocols import NullTracker, PrintReporter
from kdbench.execution.run_study import Options, prepare, run_plan
from kdbench.training.events import Epochs, Finished

METHODS = "ce, kd, mse, logit-mse, dkd, dist, nkd, pkt, sp, at"
STUDY = f"""
name: growth
question: How long does everything but training take?
data:    {{name: digits, validation: 200}}
student: {{model: digits-cnn-small}}
teacher: {{model: digits-cnn-small}}
recipe:  {{epochs: 1, batch: 256, lr: 2e-3}}
methods: [{METHODS}]
final:   {{seeds: [0]}}
report:  {{reference: ce}}
"""

#: Engine, workers, and whether a node is sent everything.
MEASURED = (("local", 1, ""), ("local", 2, ""), ("ray", 1, ""), ("ray", 2, ""), ("ray", 2, "sent"))


class Watched:
    """An engine, and when its workers had a task."""

    def __init__(self, name: str, settings: WorkerSettings, options: EngineOptions) -> None:
        self._engine: Any = ENGINES[name](settings, options)
        self.began = self.last = time.perf_counter()
        self.first_message = self.busy = 0.0
        self.received = self.runs = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def submit(self, task: Task) -> None:
        self._count()
        self._engine.submit(task)

    def messages(self, timeout: float) -> Iterator[Message]:
        for message in self._engine.messages(timeout):
            self.first_message = self.first_message or time.perf_counter() - self.began
            if isinstance(message, Epochs | Finished):
                content = message.weights if isinstance(message, Finished) else message.checkpoint
                self.received += len(content or b"")
                self.runs += isinstance(message, Finished)
            self._count()
            yield message

    def _count(self) -> None:
        """Add the time since the last look, in which as many workers were busy as are now."""
        now = time.perf_counter()
        self.busy += (now - self.last) * (self._engine.size - self._engine.idle())
        self.last = now

    @property
    def sent(self) -> int:
        """Bytes put into Ray's object store."""
        offers = getattr(self._engine, "_offers", None)
        return offers.bytes if offers else 0


def engines() -> None:
    seconds = {}
    for name, workers, kept in MEASURED:
        with tempfile.TemporaryDirectory() as folder:
            os.environ.pop("KDBENCH_NODE_CACHE", None)
            if kept:
                os.environ["KDBENCH_NODE_CACHE"] = str(Path(folder, "node"))
            watched: list[Watched] = []

            def make(
                settings: WorkerSettings, options: EngineOptions, name: str = name, w: Any = watched
            ) -> Watched:
                w.append(Watched(name, settings, options))
                return w[-1]

            ENGINES["watched"] = make
            root = Path(folder, "root")
            options = Options(
                "digits", root, workers=workers, seeds=tuple(range(5)), tune=False, engine="watched"
            )
            planner, store = prepare(options)
            began = time.perf_counter()
            run_plan(planner, store, options, NullTracker(), PrintReporter())
            taken = time.perf_counter() - began
        (engine,) = watched
        trained = seconds[name, workers, kept] = engine.last - engine.began - engine.first_message
        idle = 1 - engine.busy / (engine.size * (engine.last - engine.began))
        print(
            f"{name}, {workers} workers{', sent everything' if kept else ''}: {taken:.1f} s, first "
            f"message after {engine.first_message:.1f} s, the last run "
            f"{trained:.1f} s after it, idle {100 * idle:.1f} %, "
            f"{engine.sent / engine.runs / 1e3:.0f} kB sent and "
            f"{engine.received / engine.runs / 1e3:.0f} kB received a run"
        )
    for name in ("local", "ray"):
        print(f"{name}: {seconds[name, 1, ''] / seconds[name, 2, '']:.2f} times by two workers")
    print(
        f"ray takes {seconds['ray', 2, ''] / seconds['local', 2, '']:.3f} times local's, "
        "the start of the workers apart"
    )


def command(*words: str) -> float:
    """Seconds of one command of kdbench."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "kdbench", *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - began


def fill(study: Path, root: Path, seeds: int) -> None:
    """Give every final run the record of its method's run with seed 0, but for the spec."""
    planner, store = prepare(Options(str(study), root, seeds=tuple(range(seeds))))
    plan = planner.plan()
    made = {n.listing.label: n.id for n in plan.nodes.values() if store.record(n.id).result}
    for node in plan.nodes.values():
        record = store.record(node.id)
        if record.result is None:
            source = store.record(made[node.listing.label]).folder
            shutil.copytree(source, record.folder, ignore=shutil.ignore_patterns("spec*", "ml*"))
            (record.folder / "spec.json").write_text(node.spec.canonical())


def growth() -> None:
    print("runs  plan  first start  again  status  report  page      MLflow")
    for runs in (100, 1000, 10_000):
        with tempfile.TemporaryDirectory() as folder:
            study, root = Path(folder, "growth.yaml"), Path(folder, "root")
            study.write_text(STUDY)
            command("study", str(study), "--root", str(root))
            fill(study, root, runs // 10)
            shutil.rmtree(root / "reports")
            for name in ("mlflow.db", "mlartifacts"):
                with suppress(FileNotFoundError, NotADirectoryError):
                    shutil.rmtree(root / name) if (root / name).is_dir() else os.remove(root / name)
            every = ("study", str(study), "--root", str(root), "--seeds", f"0-{runs // 10 - 1}")
            plan, first, again = command(*every, "--dry-run"), command(*every), command(*every)
            status, report = (
                command(w, "growth", "--root", str(root)) for w in ("status", "report")
            )
            page = (root / "reports" / "growth" / "index.html").stat().st_size
            database = (root / "mlflow.db").stat().st_size
        print(
            f"{runs:5} {plan:5.1f} {first:12.1f} {again:6.1f} {status:7.1f} {report:7.1f} "
            f"{page / 1e6:6.1f} MB {database / 1e6:6.1f} MB"
        )


PARTS: dict[str, Callable[[], None]] = {"engines": engines, "growth": growth}

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(PARTS)}")
    for part in parser.parse_args().parts or PARTS:
        PARTS[part]()
        sys.stdout.flush()
