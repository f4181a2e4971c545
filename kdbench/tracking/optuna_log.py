"""The trials of every tuning as Optuna studies, for people to look at with optuna-dashboard.

They are written from the plan files and never read back. No torch here, and Optuna is imported
only when needed.
"""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from kdbench.masking import mask, pieces, safe_uri
from kdbench.records.files import atomic_write
from kdbench.records.measures import MEASURES, Measure
from kdbench.records.plan_file import CorruptPlan, PlanFile, PlannedTrial, PlanRow
from kdbench.records.store import Store
from kdbench.tracking.client import tracking_uri
from kdbench.tracking.optuna_storage import MemoryJournal, database, experimental, quieten

if TYPE_CHECKING:
    import optuna

#: The variable that names another storage, as an address that Optuna takes.
STORAGE = "KDBENCH_OPTUNA_STORAGE"

#: Seconds to wait for another process that writes the trials.
LOCK_TIMEOUT = 60.0

log = logging.getLogger(__name__)


class OptunaLog:
    """The Optuna studies of a root folder, one for each tuned row: `<study>/<label>`.

    They are in one journal file, which `optuna-dashboard optuna.journal` opens and which is
    replaced whole; or, for teams, in the Optuna storage whose address is in
    `KDBENCH_OPTUNA_STORAGE`. Any number of processes may write them. Roots that share a storage
    must not have studies of one name.
    """

    def __init__(self, root: Path, on_trouble: Callable[[str], None] | None = None) -> None:
        """`on_trouble` gets one plain sentence the first time that something fails; by default
        it is logged as a warning."""
        self.store = Store(root)
        self.path = root / "optuna.journal"
        self.url = os.environ.get(STORAGE) or None
        self._on_trouble = on_trouble or log.warning
        self._reported = False
        if self.url and pieces(self.url)[2:] == pieces(tracking_uri(root))[2:]:
            # Both keep the version of their tables in a table of one name.
            self._on_trouble(
                f"{STORAGE} names the database that MLflow is in, and the two would break each "
                f"other: give Optuna one of its own. Until then the trials go to {self.path}."
            )
            self.url = None

    def where(self) -> str:
        """Where the Optuna studies are, as it may be printed."""
        return safe_uri(self.url) if self.url else str(self.path)

    def write(self, study: str) -> bool:
        """Write the trials of each tuning of `study` that has ended; whether that worked.

        Never raises: nothing about these trials may stop a study.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # The plans are read under the lock, so an older one never replaces a newer one.
            with FileLock(self.path.with_name(".optuna.lock"), timeout=LOCK_TIMEOUT):
                self._write(study)
        except Exception as error:
            why = mask(" ".join(str(error).split())) or type(error).__name__
            if not self._reported:
                self._reported = True
                self._on_trouble(
                    f"the trials cannot be written for Optuna to {self.where()} ({why[:200]}). The "
                    f"records hold them, and `kdbench sync {study}` writes them later."
                )
            return False
        return True

    def _write(self, study: str) -> None:
        quieten()
        if self.url:
            storage = database(self.url)
            for name, row, measure in self._tunings(study):
                replace_study(storage, name, row, measure)
            return
        # One file for all studies of the root, so all are written.
        journal = MemoryJournal()
        storage = journal.storage()
        for path in sorted(self.store.plan_path(study).parent.glob("*.json")):
            if not path.name.endswith(".cost.json"):
                for name, row, measure in self._tunings(path.stem):
                    replace_study(storage, name, row, measure)
        atomic_write(self.path, journal.content())

    def _tunings(self, study: str) -> Iterator[tuple[str, PlanRow, Measure]]:
        """The rows of a study whose tuning has ended, with the names of their Optuna studies and
        the score that they maximise."""
        try:
            plan = PlanFile.load(self.store.plan_path(study))
        except CorruptPlan:  # `kdbench doctor` tells it
            return
        if plan is None:
            return
        for row in plan.rows:
            if row.ranges and row.trials and (row.best_trial is not None or row.incompatible):
                yield f"{study}/{row.label}", row, MEASURES[plan.measure]


def replace_study(
    storage: "optuna.storages.BaseStorage", name: str, row: PlanRow, measure: Measure
) -> None:
    """Make the Optuna study `name` hold the trials of `row`, in their order, and no others."""
    import optuna

    if name in optuna.get_all_study_names(storage):
        trials = optuna.load_study(study_name=name, storage=storage).trials
        # A run's id holds all that its scores depend on.
        if [t.user_attrs.get("runs") for t in trials] == [list(t.runs) for t in row.trials]:
            return
        optuna.delete_study(study_name=name, storage=storage)
    # No trial is ever asked of this study; a sampler is given to make that plain.
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(
        study_name=name, storage=storage, direction="maximize", sampler=sampler
    )
    with experimental():
        study.set_metric_names([f"validation {measure.words}"])
    study.add_trials([optuna_trial(trial, row) for trial in row.trials])


def optuna_trial(trial: PlannedTrial, row: PlanRow) -> "optuna.trial.FrozenTrial":
    """A finished trial of `row` as Optuna's; a value outside of its range widens the range."""
    import optuna

    space: dict[str, Any] = {}
    for name, searched in row.ranges.items():
        value = float(trial.hparams[name])
        low, high = min(searched.low, value), max(searched.high, value)
        space[name] = optuna.distributions.FloatDistribution(
            low, high, log=searched.log and low > 0
        )
    attributes: dict[str, Any] = {"number": trial.number, "runs": list(trial.runs)}
    if trial.nll is not None:
        attributes["val.nll"] = trial.nll
    diverged = trial.accuracy is None
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.FAIL if diverged else optuna.trial.TrialState.COMPLETE,
        value=trial.accuracy,
        params={name: float(trial.hparams[name]) for name in row.ranges},
        distributions=space,
        user_attrs=attributes,
    )
