"""Plans with tunings that have ended, and what Optuna then holds."""

from collections.abc import Sequence
from pathlib import Path

import optuna

from kdbench.records.plan_file import PlanFile, PlannedTrial, PlanRow, SearchRange
from kdbench.records.store import Store

RANGES = {"temperature": SearchRange(1.0, 20.0, log=True), "alpha": SearchRange(0.1, 0.99)}


def trials(count: int = 4) -> tuple[PlannedTrial, ...]:
    """Trials of which the third diverged and the last is the best."""
    return tuple(
        PlannedTrial(
            number,
            (f"run{number}",),
            {"temperature": 1.0 + number, "alpha": 0.5},
            *((None, None) if number == 2 else (0.5 + number / 100, 0.4)),
        )
        for number in range(count)
    )


def write_plan(
    root: Path,
    trials: Sequence[PlannedTrial],
    study: str = "digits",
    labels: Sequence[str] = ("kd",),
    ended: bool = True,
) -> None:
    """Write the plan of a study with these trials in each row."""
    rows = tuple(
        PlanRow(
            label,
            "tuned",
            label,
            searched=tuple(RANGES),
            trials=tuple(trials),
            best_trial=len(trials) - 1 if ended else None,
            ranges=RANGES,
        )
        for label in labels
    )
    PlanFile(study, "last", rows=rows).dump(Store(root).plan_path(study))


def optuna_study(root: Path, name: str = "digits/kd") -> optuna.Study:
    """The Optuna study of that name in the root's journal, opened as the dashboard does."""
    backend = optuna.storages.journal.JournalFileBackend(str(root / "optuna.journal"))
    return optuna.load_study(study_name=name, storage=optuna.storages.JournalStorage(backend))


def optuna_trials(root: Path, name: str = "digits/kd") -> list[tuple]:
    """Number, state, value, hyperparameters and attributes of each trial in the journal."""
    return [
        (t.number, t.state.name, t.value, t.params, t.user_attrs)
        for t in optuna_study(root, name).trials
    ]
