"""How long `kdbench report` takes over 1,500 runs: a made-up study of 30 methods with 10
seeds, default and tuned rows, and 30 trials a method; 10 epochs, 10,000 test images.

    python benchmarks/report.py [FOLDER]

Fills FOLDER (default: a temporary one) with records and an MLflow database, which takes
minutes, and prints the seconds of three reports, each in a fresh process.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from kdbench.records.files import write_json
from kdbench.records.spec import DataSpec, Recipe, RunSpec
from kdbench.records.store import Store
from kdbench.tracking import sync_study, tracking_uri

METHODS, SEEDS, TRIALS, EPOCHS, IMAGES, CLASSES = 30, 10, 30, 10, 10_000, 10
RECIPE = Recipe(EPOCHS, 128, "adam", 1e-3, 0.0, 0.0, "constant", (), 0.0, "fp32", "auto")


class Made:
    """Records of a study that nobody trained."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.rng = np.random.default_rng(0)
        self.labels = np.arange(IMAGES) % CLASSES
        self.listing: dict[str, dict[str, Any]] = {}
        self.teacher = self.run("teacher", "teacher", 0, {}, 0.75, None)
        rows = [row for number in range(METHODS) for row in self.rows(f"method-{number:02}")]
        plan = {
            "study": "speed", "question": "How fast?", "hash": "0123", "selection": "last",
            "data": {"name": "made-up", "checksum": "c" * 12, "augment": "none",
                     "train_on": "fit", "classes": [str(c) for c in range(CLASSES)]},
            "models": {"student": "small", "teacher": "large"}, "recipe": vars(RECIPE),
            "reference": "method-00", "margin": 0.2, "complete": True,
            "tune": {"trials": TRIALS, "epochs": 3, "seeds": [100], "sampler": "random"},
            "teachers": {"0": self.teacher}, "rows": rows, "listing": self.listing,
        }  # fmt: skip
        write_json(self.store.plan_path("speed"), plan)

    def rows(self, label: str) -> list[dict[str, Any]]:
        """A method's default and tuned rows with all their runs."""
        rate = self.rng.normal(0.7, 0.01)
        trials = []
        for number in range(TRIALS):
            hparams = {"temperature": float(self.rng.uniform(1, 20)), "alpha": number / TRIALS}
            run = self.run("trial", label, 100, hparams, rate, number)
            trials.append({"number": number, "runs": [run], "hparams": hparams, "nll": 1.0,
                           "accuracy": rate + self.rng.normal(0, 0.01)})  # fmt: skip
        made = []
        for row in ("default", "tuned"):
            hparams = {"temperature": 4.0 + (row == "tuned"), "alpha": 0.5}
            runs = {str(s): self.run("final", label, s, hparams, rate, None) for s in range(SEEDS)}
            made.append({"label": label, "row": row, "method": label, "cite": None,
                         "hparams": hparams, "runs": runs, "incompatible": None,
                         "searched": list(hparams) if row == "tuned" else [],
                         "trials": trials if row == "tuned" else [],
                         "best_trial": 0 if row == "tuned" else None})  # fmt: skip
        return made

    def run(
        self,
        kind: str,
        label: str,
        seed: int,
        hparams: dict[str, Any],
        rate: float,
        trial: int | None,
    ) -> str:
        """One record, scored where it is a final run or a teacher."""
        data = DataSpec("made-up", "c" * 12, 200, 0, "none", "fit")
        spec = RunSpec(data, {"student": kind}, label, 1, "", hparams, RECIPE, seed)
        self.listing[spec.id] = {
            "name": f"{label} seed {seed}", "kind": kind, "method": label, "label": label,
            "group": label, "seed": seed, "trial": trial,
            "teacher": None if kind == "teacher" else self.teacher,
        }  # fmt: skip
        record = self.store.record(spec.id)
        record.begin(spec)
        epochs = [
            {"epoch": e, "train.loss": 1 / e, "train.accuracy": rate, "val.accuracy": rate,
             "val.nll": 1.0, "seconds": 1.0}
            for e in range(1, EPOCHS + 1)
        ]  # fmt: skip
        record.add_epochs(epochs, None)
        record.finish({
            "id": spec.id, "state": "done", "epochs": EPOCHS, "diverged_epoch": None,
            "last": {"val.accuracy": rate, "val.nll": 1.0}, "best": {},
            "loss_weights": {"task": 1.0},
            "parameters": 100, "student_parameters": 100, "macs": 1000, "seconds": 10.0,
            "device": "cpu", "hardware": "a machine", "commit": "f00d", "dirty": False,
            "versions": {"torch": "2.11"}, "finished": "2026-01-02T03:04:05+00:00",
        }, None)  # fmt: skip
        if kind != "trial":
            wrong = self.rng.random(IMAGES) > rate + self.rng.normal(0, 0.004)
            predicted = np.where(wrong, self.rng.integers(0, CLASSES, IMAGES), self.labels)
            logits = np.eye(CLASSES, dtype=np.float32)[predicted]
            logits += self.rng.normal(0, 0.1, logits.shape).astype(np.float32)
            scores = {"accuracy": float((predicted == self.labels).mean()), "nll": 1.0, "ece": 0.02,
                      "f1": 0.7, "per_class": [0.7] * CLASSES}  # fmt: skip
            test = {"checksum": "t" * 12, "images": IMAGES, "last": scores, "best": None}
            record.score(test, {"last": logits, "labels": self.labels})
        return spec.id


def main() -> None:
    """Fill the folder where that was not done, then time three reports."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    if not Store(root).plan_path("speed").exists():
        runs = len(Made(root).listing)
        print(f"{runs} runs made", flush=True)
    sync_study(Store(root), "speed", tracking_uri(root))
    command = [sys.executable, "-m", "kdbench", "report", "speed", "--root", str(root)]
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"{time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
