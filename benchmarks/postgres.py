"""Several processes on PostgreSQL: the MLflow store and the Optuna trials of one study.

    python benchmarks/postgres.py MLFLOW_URL OPTUNA_URL [PROCESSES]

The addresses are of two empty databases, as in postgresql+psycopg2://USER@HOST/DATABASE.
Makes the records of a study that nobody trained (61 runs of 10 epochs) and lets PROCESSES
(default: 4) at once bring MLflow up to date with all of them and write the trials; then
counts. Exit code 1 if anything is there twice or missing.
"""

import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from kdbench.records.plan_file import PlanFile, PlannedRun, PlannedTrial, PlanRow, SearchRange
from kdbench.records.spec import DataSpec, Recipe, RunSpec
from kdbench.records.store import Store
from kdbench.tracking import BackgroundSync, safe_uri, stale_runs, sync_study
from kdbench.tracking.experiment import StudyExperiment
from kdbench.tracking.optuna_log import STORAGE, OptunaLog
from kdbench.tracking.optuna_storage import database

STUDY, METHODS, SEEDS, TRIALS, EPOCHS, IMAGES, CLASSES = "team", 4, 5, 10, 10, 200, 10
RECIPE = Recipe(EPOCHS, 32, "adam", 1e-3, 0.0, 0.0, "constant", (), 0.0, "fp32", "auto")
DATA = DataSpec("fake", "c" * 64, 200, 0, "none", "fit")


class FakeRecords:
    """The records of a study that nobody trained, and its plan's listing."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.listing: dict[str, PlannedRun] = {}
        self.rng = np.random.default_rng(0)
        self.run("teacher", "ce", 0, None)
        for method in labels():
            for seed in range(SEEDS):
                self.run("final", method, seed, None)
            for number in range(TRIALS):
                self.run("trial", method, 100 + number, number)
        ranges = {"alpha": SearchRange(0.0, 1.0)}
        rows = tuple(
            PlanRow(m, "tuned", m, trials=trials(m), best_trial=TRIALS - 1, ranges=ranges)
            for m in labels()
        )
        plan = PlanFile(STUDY, "last", "Does it scale?", rows=rows, listing=self.listing)
        plan.dump(self.store.plan_path(STUDY))

    def run(self, kind: str, method: str, seed: int, trial: int | None) -> None:
        """One finished record."""
        spec = RunSpec(DATA, {"student": "small"}, f"{method}-{kind}", 1, "", {}, RECIPE, seed)
        record = self.store.record(spec.id)
        record.begin(spec)
        rows = [
            {"epoch": e, "seconds": 0.5, "train.loss": 1 / e, "val.accuracy": 0.8, "val.nll": 0.4}
            for e in range(1, EPOCHS + 1)
        ]
        record.add_epochs(rows, None)
        result = {"state": "done", "epochs": EPOCHS, "seconds": 5.0, "parameters": 100}
        record.finish(result | {"finished": "2026-01-02T03:04:05+00:00"}, b"weights")
        if trial is None:
            labels = self.rng.integers(0, CLASSES, IMAGES)
            logits = self.rng.normal(size=(IMAGES, CLASSES)).astype(np.float32)
            scores = {"accuracy": 0.8, "nll": 0.5}
            test = {"checksum": "t" * 64, "images": IMAGES, "last": scores, "best": None}
            record.score(test, {"last": logits, "labels": labels})
        group = "teachers" if kind == "teacher" else method
        name = f"{kind} {method} {seed}"
        self.listing[spec.id] = PlannedRun(name, kind, group, method, method, seed, trial)


def labels() -> list[str]:
    """The methods of the study."""
    return [f"method-{number}" for number in range(METHODS)]


def trials(method: str) -> tuple[PlannedTrial, ...]:
    """The finished trials of a method."""
    return tuple(
        PlannedTrial(n, (f"{method}-{n}",), {"alpha": (n + 1) / (TRIALS + 1)}, 0.5 + n / 100, 0.4)
        for n in range(TRIALS)
    )


def work(barrier: Any, root: Path, uri: str, listing: dict[str, PlannedRun]) -> None:
    """What one `kdbench study` does to the two stores."""
    background = BackgroundSync(Store(root), STUDY, uri, on_trouble=print)
    background.open()
    log = OptunaLog(root, on_trouble=print)
    barrier.wait()
    background.start()
    for run_id, entry in listing.items():
        background.touch(run_id, entry)
    for _ in labels():
        if not log.write(STUDY):
            sys.exit("the trials were not written")
    if count := background.close(600):
        sys.exit(f"{count} runs are out of date")


def check(fake: FakeRecords, uri: str) -> list[str]:
    """Count what the stores hold, print it, and return what is wrong."""
    wrong = []
    experiment = StudyExperiment(fake.store, STUDY, uri)
    experiment.open()
    runs = list(experiment.client.search_runs([experiment.id], max_results=10_000))
    ids = Counter(r.data.tags.get("kdbench.id") for r in runs)
    without = ids.pop(None, 0)
    if set(ids) != set(fake.listing) or set(ids.values()) != {1} or without != METHODS + 1:
        wrong.append("runs are not the ids and the groups, each once")
    points = 0
    for run in runs:
        for key in run.data.metrics:
            steps = [p.step for p in experiment.client.get_metric_history(run.info.run_id, key)]
            points += len(steps)
            if len(set(steps)) < len(steps):
                wrong.append(f"{run.info.run_name}: {key} has a step twice")
    expected = len(fake.listing) * EPOCHS * 4
    print(f"runs    {len(ids)} for {len(fake.listing)} ids, {without} groups")
    print(f"points  {points}, of which {expected} on curves")
    held, storage = 0, database(os.environ[STORAGE])
    for method in labels():
        found = optuna.load_study(study_name=f"{STUDY}/{method}", storage=storage).trials
        held += len(found)
        if [t.user_attrs.get("number") for t in found] != list(range(TRIALS)):
            wrong.append(f"the Optuna study of {method} does not hold its trials")
    print(f"trials  {held} for {METHODS * TRIALS}")
    counts = sync_study(fake.store, STUDY, uri)
    if counts != {"up to date": len(fake.listing), "updated": 0, "not begun": 0}:
        wrong.append(f"sync found work: {counts}")
    wrong += [item.text for item in stale_runs(fake.store, STUDY, uri)]
    return wrong


def main() -> int:
    """Do it and say it."""
    uri, os.environ[STORAGE] = sys.argv[1:3]
    os.environ["MLFLOW_TRACKING_URI"] = uri
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 4
    with tempfile.TemporaryDirectory() as name:
        fake = FakeRecords(Path(name))
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(count + 1)
        arguments = (barrier, Path(name), uri, fake.listing)
        processes = [context.Process(target=work, args=arguments) for _ in range(count)]
        begun = time.monotonic()
        for process in processes:
            process.start()
        barrier.wait()
        opened = time.monotonic()
        for process in processes:
            process.join()
        done = time.monotonic()
        print(f"{count} processes on {safe_uri(uri)}")
        print(f"opened  {opened - begun:.1f} s   synced  {done - opened:.1f} s")
        wrong = check(fake, uri)
        if any(process.exitcode for process in processes):
            wrong.append("a process failed")
    for line in wrong:
        print(f"WRONG   {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
