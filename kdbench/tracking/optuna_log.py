"""The trials of every tuning as Optuna studies, for people to look at with optuna-dashboard.

They are written from the plan files and never read back. No torch here, and Optuna is imported
only when needed.
"""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock

from kdbench.masking import mask, pieces, safe_uri
from kdbench.records.files import atomic_write
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Store
from kdbench.tracking.client import tracking_uri
from kdbench.tracking.optuna_storage import MemoryJournal, database, quieten
from kdbench.tracking.optuna_trials import Tuning, replace_study

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
        uri = tracking_uri(self.store.root)
        if self.url:
            storage = database(self.url)
            for tuning in self._tunings(study):
                replace_study(storage, tuning, self.store, uri)
            return
        # One file for all studies of the root, so all are written.
        journal = MemoryJournal()
        storage = journal.storage()
        for path in sorted(self.store.plan_path(study).parent.glob("*.json")):
            if not path.name.endswith(".cost.json"):
                for tuning in self._tunings(path.stem):
                    replace_study(storage, tuning, self.store, uri)
        atomic_write(self.path, journal.content())

    def _tunings(self, study: str) -> Iterator[Tuning]:
        """The tunings of a study that have ended."""
        if (plan := PlanFile.load_readable(self.store.plan_path(study))) is None:
            return
        for row in plan.rows:
            if row.ranges and row.trials and (row.best_trial is not None or row.incompatible):
                yield Tuning(plan, row)
