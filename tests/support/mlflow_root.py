"""A root folder whose records are written by hand, and what MLflow holds of them."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from kdbench.records.plan_file import PlanData, PlanFile, PlannedRun
from kdbench.records.spec import DataSpec, Recipe, RunSpec
from kdbench.records.store import Record, Store
from kdbench.tracking import search
from kdbench.tracking.experiment import StudyExperiment
from kdbench.tracking.sync import sync_run

STUDY, CLASSES, IMAGES = "digits", 4, 40


class MlflowRoot:
    """A root folder with a plan, and records that tests write by hand."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.uri = f"sqlite:///{root / 'mlflow.db'}"
        self.listing: dict[str, PlannedRun] = {}
        self.plan = PlanFile(STUDY, "last", "Does it?", "abc", PlanData("digits", shape=(1, 8, 8)))

    def begin(self, kind: str = "final", method: str = "kd", seed: int = 0, **entry) -> Record:
        """A record that has a spec and a line in the plan, and nothing else."""
        data = DataSpec("digits", "c" * 64, 200, 0, "none", "fit")
        recipe = Recipe(2, 32, "adam", 1e-3, 0.9, 0.0, "constant", (0.5, 0.75), 0.1, "fp32", "auto")
        hparams = {"temperature": 4.0, "alpha": 0.9} if method == "kd" else {}
        trial = entry.get("trial")
        frozen = {"teacher": entry["teacher"]} if method == "kd" and entry.get("teacher") else {}
        spec = RunSpec(
            data, {"student": "lightnn"}, method, 1, "", hparams, recipe,
            seed + (0 if trial is None else 1000 + trial), 0, frozen,
        )  # fmt: skip
        name = f"{kind}-{method} seed {seed}" if kind != "final" else f"{method} seed {seed}"
        group = "teachers" if kind == "teacher" else method
        planned = PlannedRun(name, kind, group, method, label=method, seed=seed)
        self.listing[spec.id] = replace(planned, **entry)
        replace(self.plan, listing=self.listing).dump(self.store.plan_path(STUDY))
        record = self.store.record(spec.id)
        record.begin(spec)
        return record

    def epochs(self, record: Record, first: int, last: int) -> None:
        for epoch in range(first, last + 1):
            row = {"epoch": epoch, "seconds": 0.5, "lr": 1e-3, "train.loss": 1 / epoch}
            row |= {"train.loss.kl": 0.5 / epoch, "train.accuracy": 0.9}
            record.add_epochs([row | {"val.accuracy": 0.8 + epoch / 100, "val.nll": 0.4}], b"x")

    def finish(self, record: Record, state: str = "done", epochs: int = 3) -> None:
        record.finish(
            {
                "id": record.id, "state": state, "epochs": epochs,
                "diverged_epoch": None if state == "done" else epochs,
                "last": {}, "best": {}, "loss_weights": {"task": 0.1, "soft": 14.4},
                "parameters": 110, "student_parameters": 100, "macs": 1000, "seconds": 1.5,
                "device": "cpu", "hardware": "a machine", "commit": "f00d", "dirty": False,
                "versions": {"torch": "2.11", "kdbench": "0.1.0"},
                "finished": "2026-01-02T03:04:05+00:00",
            },
            save({"last/w": np.zeros(3)}),
        )  # fmt: skip

    def score(self, record: Record, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        logits = rng.normal(size=(IMAGES, CLASSES)).astype(np.float32)
        labels = rng.integers(0, CLASSES, IMAGES)
        scores = {"accuracy": 0.9, "nll": 0.3, "ece": 0.02, "f1": 0.89}
        scores |= {"per_class": [0.9, 0.8, 1.0, float("nan")]}
        test = {"checksum": "t" * 64, "images": IMAGES, "last": scores, "best": None}
        record.score(test, {"last": logits, "labels": labels})
        return logits

    def final(self, seed: int = 0, method: str = "kd", **entry) -> Record:
        record = self.begin("final", method, seed, **entry)
        self.epochs(record, 1, 3)
        self.finish(record)
        self.score(record, seed)
        return record

    def teacher(self) -> Record:
        record = self.begin("teacher", "ce", 77)
        self.epochs(record, 1, 2)
        self.finish(record, epochs=2)
        self.score(record, 77)
        return record

    def experiment(self) -> StudyExperiment:
        experiment = StudyExperiment(self.store, STUDY, self.uri)
        experiment.open()
        return experiment

    def sync(self, record: Record, live: bool = False) -> bool:
        """As a process that starts anew would."""
        return sync_run(self.experiment(), record.id, self.listing[record.id], live)

    def run(self, record: Record):
        """The one MLflow run of a record."""
        frame = search(STUDY, self.uri)
        (run,) = frame.loc[frame["tags.kdbench.id"] == record.id, "run_id"]
        return self.experiment().client.get_run(run)

    def content(self) -> dict:
        """All that MLflow holds, apart from its own ids and the time of day."""
        experiment = self.experiment()
        held = {}
        for run in experiment.client.search_runs([experiment.id]):
            run_id = run.info.run_id
            histories = {
                key: [(p.step, p.value) for p in experiment.client.get_metric_history(run_id, key)]
                for key in run.data.metrics
            }
            files = sorted(f.path for f in experiment.client.list_artifacts(run_id))
            tags = {k: v for k, v in run.data.tags.items() if k != "mlflow.parentRunId"}
            name = run.info.run_name
            held[name] = (run.info.status, run.data.params, tags, histories, files)
        return held


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)
