"""Which tuning protocol finds hyperparameters that are really better than the defaults?

    python benchmarks/tuning.py ROOT        trains once (an hour), then simulates (seconds)

Every point of a random search on digits is trained with many seeds: on validation data as
tuning does it, and as final runs, whose mean test accuracy counts as the truth. Each
protocol is then played thousands of times with seeds drawn from these runs, and judged by the true
accuracy of the point it chose against that of the default.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import kdbench
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Store
from kdbench.study.load import parse_study
from kdbench.study.sampling import best, confirmed_best, shortlist

METHODS = ("kd", "dkd", "sp", "at", "dml")
TRIALS, SEEDS, TRUE_SEEDS, REPETITIONS = 8, 24, 16, 4000

#: Validation images and epochs of the tuning runs; final runs have 20 epochs.
SETTINGS = ((200, 10), (400, 10))


def study(name: str, validation: int, methods: list[Any], **parts: Any) -> Any:
    """A study of the shipped digits recipe."""
    raw = {
        "name": name,
        "data": {"name": "digits", "validation": validation},
        "student": {"model": "digits-cnn-small"},
        "teacher": {"model": "digits-cnn", "method": "ce", "seed": 0},
        "recipe": {"epochs": 20, "batch": 64, "lr": 2e-3, "schedule": "cosine"},
        "methods": methods,
        "final": {"seeds": [0]},
        "report": {"reference": "ce"},
        **parts,
    }
    return parse_study(yaml.safe_dump(raw), name)


def trained(root: Path, content: Any) -> tuple[Store, PlanFile]:
    """The store and the plan of a study that has run; it goes on where it was stopped."""
    kdbench.run_study(content, root)
    store = Store(root)
    plan = PlanFile.load(store.plan_path(content.name))
    assert plan is not None
    return store, plan


def validation_scores(root: Path, validation: int, epochs: int) -> dict[str, np.ndarray]:
    """Validation accuracies (trials, seeds) by method."""
    seeds = list(range(1000, 1000 + SEEDS))
    tune = {"trials": TRIALS, "epochs": epochs, "seeds": seeds}
    name = f"search-{validation}-{epochs}"
    store, plan = trained(root, study(name, validation, ["ce", *METHODS], tune=tune))
    return {
        row.label: np.array([
            [store.record(run).result["last"]["val.accuracy"] for run in trial.runs]  # type: ignore[index]
            for trial in row.trials
        ])
        for row in plan.rows
        if row.row == "tuned"
    }  # fmt: skip


def true_scores(root: Path, points: dict[str, list[dict[str, Any]]]) -> dict[str, np.ndarray]:
    """Test accuracies (trials, seeds) of final runs by method."""
    entries: list[Any] = ["ce"]
    for method, tried in points.items():
        entries += [
            {"method": method, "label": f"{method}-{number}", "hparams": hparams}
            for number, hparams in enumerate(tried)
        ]
    final = {"seeds": list(range(TRUE_SEEDS)), "train_on": "all"}
    store, plan = trained(root, study("truth", 200, entries, final=final))
    rows = {row.label: row for row in plan.rows}

    def accuracies(label: str) -> list[float]:
        return [store.record(run).test["last"]["accuracy"] for run in rows[label].runs.values()]  # type: ignore[index]

    return {
        method: np.array([accuracies(f"{method}-{number}") for number in range(len(tried))])
        for method, tried in points.items()
    }


@dataclass(frozen=True)
class Protocol:
    """`first` seeds for every point; then, where `again` is not 0, the default and the best
    `points` with so many more, and the default kept by the one-standard-error rule."""

    first: int
    points: int = 0
    again: int = 0

    @property
    def runs(self) -> int:
        """The budget of one method."""
        return TRIALS * self.first + (self.points + 1) * self.again

    def choose(self, scores: np.ndarray, draw: np.random.Generator) -> int:
        """The number of the chosen trial, from validation accuracies (trials, seeds)."""
        seeds = draw.permutation(scores.shape[1])
        means = scores[:, seeds[: self.first]].mean(axis=1)
        first = {number: (float(mean), 0.0) for number, mean in enumerate(means)}
        if not self.again:
            return best(first)
        later = seeds[self.first : self.first + self.again]
        return confirmed_best(
            {number: list(scores[number, later]) for number in shortlist(first, self.points)}
        )


PROTOCOLS = (
    Protocol(1), Protocol(2), Protocol(3), Protocol(5),
    Protocol(1, 1, 4), Protocol(1, 2, 3), Protocol(1, 2, 4), Protocol(1, 2, 8), Protocol(1, 3, 4),
    Protocol(2, 2, 4), Protocol(1, 2, 5), Protocol(1, 2, 2),
)  # fmt: skip


def main() -> int:
    """Print a table of the protocols for every setting."""
    root = Path(sys.argv[1])
    scores = {setting: validation_scores(root, *setting) for setting in SETTINGS}
    plan = PlanFile.load(Store(root).plan_path("search-200-10"))
    assert plan is not None
    points = {
        row.label: [dict(trial.hparams) for trial in row.trials]
        for row in plan.rows
        if row.row == "tuned"
    }
    truth = {method: 100 * test.mean(axis=1) for method, test in true_scores(root, points).items()}
    print("true gain over the default of each point, in points of test accuracy:")
    for method, means in truth.items():
        print(f"  {method:4} {np.round(means - means[0], 2)}")
    print("validation, epochs | protocol | runs | gain | worst method | chosen worse than default")
    for setting in SETTINGS:
        for protocol in PROTOCOLS:
            gains = {}
            for method, means in truth.items():
                draw = np.random.default_rng(0)
                chosen = [
                    protocol.choose(scores[setting][method], draw) for _ in range(REPETITIONS)
                ]
                gains[method] = (means - means[0])[chosen]
            every = np.concatenate(list(gains.values()))
            print(
                f"{setting} | {protocol.first} + {protocol.points}x{protocol.again} | "
                f"{protocol.runs} | {every.mean():+.3f} | "
                f"{min(g.mean() for g in gains.values()):+.3f} | {100 * (every < 0).mean():.1f} %"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
