"""A study that was made up: every kind of row, and every way to lack a run."""

import numpy as np
import pandas as pd

from kdbench.records import summary
from kdbench.records.files import write_json
from kdbench.records.plan_file import PlanFile, PlannedRun
from kdbench.records.spec import DataSpec, Recipe, RunSpec
from kdbench.records.store import Store
from kdbench.report.data.confusion import confusions_frame
from kdbench.report.data.report_data import ReportData, tidy_curves, trials_frame
from kdbench.report.data.runs import records_frame
from kdbench.tracking import payload

ODD = "a_b%&#"
IMAGES, CLASSES, SEEDS = 1000, 4, 5
#: Test images out of 1000 that each method has right on seeds 0 to 4.
RIGHT = {
    ("ce", "only"): (900, 905, 898, 910, 903),
    ("kd", "default"): (915, 921, 911, 926, 917),
    ("kd", "tuned"): (930, 936, 926, 941, 932),
    ("rkd", "tuned"): (901, 904, 900, 909, 905),
    (ODD, "default"): (899, 906, 899, 909, 903),
    (ODD, "tuned"): (890, 896, 887, 902, 894),
    ("kd-tutorial", "pinned"): (912, 914, 910, 921, 915),
    ("dml", "only"): (908, 915, 902, None, 911),
    ("at", "only"): (880, 930, 905, 870, None),
    ("bad", "default"): (700, 710, 690, 705, 702),
}
COST = {
    "machine": "2 cores",
    "rows": {
        "ce": {"relative": 1.0, "training": 1.0},
        "kd": {"relative": 1.034, "training": 2.5, "peak_mb": 210.0},
        "rkd": {"relative": 1.7},
    },
}


class FakeStudy:
    """Records on disk, the plan that names them, and what MLflow would say of them."""

    def __init__(self, root):
        self.store = Store(root)
        self.listing = {}
        self.rng = np.random.default_rng(0)
        self.teacher = self.run("teacher", "ce", "teacher", 0, 960, {})
        rows = []
        for (label, row), right in RIGHT.items():
            hparams = {"temperature": 4.0, "alpha": 0.9} if label != "ce" else {}
            hparams |= {"row": row} if row in ("tuned", "pinned") else {}
            runs = {
                str(s): self.run("final", label, label, s, r, hparams) for s, r in enumerate(right)
            }
            rows.append(self.row(label, row, runs, hparams, searched=["alpha"] * (row == "tuned")))
        for row in rows:
            if row["row"] == "tuned":
                row |= {"trials": self.trials(row["label"]), "best_trial": 3}
        tuned = next(r for r in rows if r["label"] == "rkd")
        rows.insert(0, {**tuned, "row": "default", "searched": []})
        rows.append(
            self.row("fsp", "default", {}, {}, incompatible="layers differ in channels: 16 and 32")
        )
        rows.append(self.row("bad", "tuned", {}, {}, incompatible="all 8 trials diverged"))
        self.plan = PlanFile.from_dict({
            "study": "fake_study", "question": "Which one?", "hash": "0123",
            "data": {"name": "digits", "checksum": "c" * 64, "validation": 200,
                     "augment": "none", "train_on": "fit",
                     "classes": ["0", "1", "2_%", "<3>"]},
            "models": {"student": "small", "teacher": "large"}, "recipe": {},
            "selection": "last", "reference": "ce", "margin": 0.2,
            "tune": {"trials": 8, "epochs": 3, "seeds": [100], "sampler": "random"},
            "teachers": {"0": self.teacher}, "complete": False,
            "rows": rows, "listing": self.listing,
        })  # fmt: skip
        self.plan.dump(self.store.plan_path("fake_study"))
        write_json(self.store.costs_path("fake_study"), COST)

    @staticmethod
    def row(label, row, runs, hparams, searched=(), incompatible=None):
        return {"label": label, "row": row, "method": label, "hparams": hparams, "runs": runs,
                "searched": list(searched), "trials": [], "best_trial": None,
                "incompatible": incompatible}  # fmt: skip

    @staticmethod
    def trials(label):
        """Eight trials, of which the sixth diverged and the fourth was the best."""
        return [
            {"number": k, "runs": [f"{label}-{k}"], "nll": None if k == 5 else 0.5,
             "accuracy": None if k == 5 else 0.9 - abs(k - 3) / 100,
             "hparams": {"temperature": 2.0**k, "alpha": k / 8}}
            for k in range(8)
        ]  # fmt: skip

    def run(self, kind, method, label, seed, right, hparams):
        """A record whose student has `right` of the test images right; its id. None: it
        diverged (dml) or was never begun (at)."""
        spec = RunSpec(
            DataSpec("digits", "c" * 64, 200, 0, "none", "fit"),
            {"student": "large" if kind == "teacher" else "small"}, method, 1, "", hparams,
            Recipe(2, 32, "adam", 1e-3, 0.9, 0.0, "constant", (), 0.1, "fp32", "auto"), seed,
        )  # fmt: skip
        self.listing[spec.id] = {
            "name": f"{label} seed {seed}", "kind": kind, "method": method, "label": label,
            "group": "teachers" if kind == "teacher" else label, "seed": seed, "trial": None,
            "teacher": None if kind == "teacher" else self.teacher,
        }  # fmt: skip
        if right is None and label == "at":
            return spec.id
        record = self.store.record(spec.id)
        record.begin(spec)
        record.finish({
            "id": spec.id, "state": "done" if right else "diverged", "epochs": 2,
            "diverged_epoch": None if right else 2, "last": {}, "best": {},
            "loss_weights": {"task": 1.0}, "parameters": 110, "student_parameters": 100,
            "macs": 1000, "seconds": 1.5 + seed, "device": "cpu", "hardware": "a machine",
            "commit": "f00d", "dirty": False, "versions": {"torch": "2.11"},
            "finished": "2026-01-02T03:04:05+00:00",
        }, None)  # fmt: skip
        if right:
            labels = np.arange(IMAGES) % CLASSES
            said = np.where(np.arange(IMAGES) < right, labels, (labels + 1) % CLASSES)
            logits = np.eye(CLASSES, dtype=np.float32)[said] * 3
            logits += self.rng.normal(0, 0.1, logits.shape).astype(np.float32)
            scores = {"accuracy": right / IMAGES, "nll": 0.3 + seed / 100, "ece": 0.02,
                      "f1": right / IMAGES - 0.01, "per_class": [0.9] * CLASSES}  # fmt: skip
            test = {"checksum": "t" * 64, "images": IMAGES, "last": scores, "best": None}
            record.score(test, {"last": logits, "labels": labels})
        return spec.id

    def search(self):
        """What `mlflow.search_runs` gives after a sync, with a group's run among the rows."""
        rows = [{"run_id": "g", "status": "FINISHED", "tags.kdbench.kind": "method"}]
        for run, entry in self.listing.items():
            record = self.store.record(run)
            spec = record.spec()
            if spec is None:
                continue
            word, status = summary.state(record, live=False)
            metrics = payload.scalars(record, None, "last")
            if entry["teacher"] and record.test:
                teacher = self.store.record(entry["teacher"])
                metrics |= summary.fidelity(record, teacher, "last")
            row = {"run_id": f"m{run}", "status": status}
            row |= {f"metrics.{payload.section_name(k)}": v for k, v in metrics.items()}
            row |= {f"params.{k}": v for k, v in payload.params(spec, record.result).items()}
            tags = payload.tags(record, spec, PlannedRun(**entry), "fake_study", word, "")
            rows.append(row | {f"tags.{k}": v for k, v in tags.items()})
        return pd.DataFrame(rows)

    def report_data(self):
        """All that a report is made from, out of the records."""
        runs = records_frame(self.store, self.plan, COST)
        confusions = confusions_frame(self.store, self.plan, runs)
        curves = tidy_curves(self.curves(runs))
        return ReportData(
            self.plan.without_runs(), COST, runs, curves, trials_frame(self.plan), confusions
        )

    def curves(self, runs):
        """Two epochs of every run that was finished."""
        rows = [
            (run, epoch, metric, value + epoch / 10 + seed / 100)
            for run, seed in zip(runs["id"], runs["seed"], strict=True)
            if run is not None
            for epoch in (1, 2)
            for metric, value in (("val.accuracy", 0.5), ("train.loss", 1.0), ("seconds", 3.0))
        ]
        frame = pd.DataFrame(rows, columns=["id", "epoch", "metric", "value"])
        return frame.drop_duplicates(["id", "epoch", "metric"])
