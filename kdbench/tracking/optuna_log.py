"""Tuning's ledger: an Optuna study of what its trials gave.

The records are the truth; the Optuna study is written from them for people to look at with
optuna-dashboard. No torch here, and Optuna only when needed.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from kdbench.records.spec import Ranges
from kdbench.tracking.client import pieces, redact, safe_uri, tracking_uri
from kdbench.tracking.optuna_storage import (
    database,
    ends_whole,
    experimental,
    fingerprint,
    journal,
    quieten,
    repair_journal,
)

if TYPE_CHECKING:
    import optuna

#: Where another storage for the ledger is named, as an address that Optuna takes.
STORAGE = "KDBENCH_OPTUNA_STORAGE"

#: Seconds to wait for another process that writes the ledger, and before the next try.
PATIENCE, REST = 60.0, 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """A finished trial. `value` is the validation accuracy (a fraction), None if it diverged."""

    number: int
    hparams: Mapping[str, float]
    value: float | None
    runs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)


class OptunaLog:
    """The Optuna studies of a root folder, written by any number of processes.

    They are in one journal file, which optuna-dashboard opens (`optuna-dashboard
    optuna.journal`) and which is some ten times as quick as Optuna's SQLite; or, for
    teams, in the Optuna storage whose address is in `KDBENCH_OPTUNA_STORAGE`.

    Nothing reads them as truth, so nothing about them stops a study: `on_trouble` gets
    one plain sentence (a logged warning by default), and what could not be written is
    written with the next trials. A file lock in the root keeps trials single; roots that
    share a storage and no file system must not have studies of one name.
    """

    def __init__(self, root: Path, on_trouble: Callable[[str], None] | None = None) -> None:
        self.path = root / "optuna.journal"
        self._say = on_trouble or log.warning
        self.url = os.environ.get(STORAGE) or None
        if self.url and pieces(self.url)[2:] == pieces(tracking_uri(root))[2:]:
            # Both keep the version of their tables in a table of one name.
            self._say(
                f"{STORAGE} names the database that MLflow is in, and the two would break each "
                f"other: give Optuna one of its own. Until then the trials go to {self.path}."
            )
            self.url = None
        self._lock = FileLock(root / ".optuna.lock", timeout=PATIENCE)
        self._waiting: dict[str, tuple[list[Any], list[optuna.trial.FrozenTrial]]] = {}
        self._again = 0.0
        self._levelled: set[str] = set()
        self._storage: Any = None
        self._seen = (0, b"")  # of which journal: size and beginning

    def where(self) -> str:
        """Where the Optuna studies are, as it may be printed."""
        return safe_uri(self.url) if self.url else str(self.path)

    def study(self, name: str) -> "optuna.Study":
        """The Optuna study of that name, created where missing. Raises what Optuna raises."""
        import optuna

        quieten()
        # Nobody asks this study for points; a sampler is stated to make that plain.
        sampler = optuna.samplers.RandomSampler(seed=0)
        with self._alone():
            storage = self._opened()
            try:
                return optuna.load_study(study_name=name, storage=storage, sampler=sampler)
            except KeyError:
                study = optuna.create_study(
                    study_name=name, storage=storage, direction="maximize", sampler=sampler
                )
            with experimental():
                study.set_metric_names(["validation accuracy"])
            return study

    def level(self, study: str, label: str, ranges: Ranges, trials: Iterable[Trial]) -> int:
        """Bring `<study>/<label>` level with its finished trials; how many were added.

        Optuna numbers trials as they come, so they are added in their order, and a study
        that holds others (the study file was edited) or in another order is written anew;
        unless this process has levelled it before and only lacks trials that another
        process knows already.
        """
        wanted = sorted(trials, key=lambda trial: trial.number)
        marks = [mark(attributes(trial)) for trial in wanted]
        self._waiting[f"{study}/{label}"] = (marks, [frozen(trial, ranges) for trial in wanted])
        if time.monotonic() < self._again:
            return 0
        added = 0
        try:
            for name in list(self._waiting):
                try:
                    added += self._level(name, *self._waiting[name])
                except (ValueError, KeyError):
                    # What is remembered of a journal that was changed underneath.
                    self._storage = None
                    added += self._level(name, *self._waiting[name])
                del self._waiting[name]
        except Exception as error:
            self._storage = None
            self._again = time.monotonic() + REST
            why = " ".join(str(error).split()) or type(error).__name__
            why = redact(why, self.url) if self.url else why
            self._say(
                f"the Optuna ledger at {self.where()} cannot be written ({why[:200]}). The "
                "records hold the trials, and the ledger gets them later."
            )
        return added

    def _level(
        self, name: str, marks: Sequence[Any], trials: Sequence["optuna.trial.FrozenTrial"]
    ) -> int:
        import optuna

        with self._alone():
            study = self.study(name)
            held = [
                # What is not finished is not from here, or was cut off.
                mark(t.user_attrs) if t.state.is_finished() else None
                for t in study.get_trials(deepcopy=False)
            ]
            ahead = len(held) > len(marks) and all(m in held for m in marks)
            if ahead and name in self._levelled:
                return 0
            if held != marks[: len(held)]:
                optuna.delete_study(study_name=name, storage=self._opened())
                study, held = self.study(name), []
            for trial in trials[len(held) :]:
                study.add_trial(trial)
        self._levelled.add(name)
        return len(trials) - len(held)

    # -- storage

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the root's lock; it may be held already. Raises `TimeoutError`."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            yield

    def _opened(self) -> Any:
        """Optuna's storage, whole; the lock must be held."""
        if self.url:
            if self._storage is None:
                self._storage = database(self.url)
            return self._storage
        if self._storage is None or not self._as_it_was():
            kept = repair_journal(self.path, self._lock)
            if kept is not None:
                self._say(
                    f"{self.path} was damaged, as a killed process or a full disk leaves it; "
                    f"it is written anew from the records, and the old file is {kept.name}"
                )
            self._storage = journal(self.path, self._lock)
            self._seen = fingerprint(self.path)
        return self._storage

    def _as_it_was(self) -> bool:
        """Whether the journal is still the file that was opened, and ends with a whole line."""
        try:
            now, whole = fingerprint(self.path), ends_whole(self.path)
        except FileNotFoundError:
            return False
        before, self._seen = self._seen, now
        return whole and now[0] >= before[0] and now[1].startswith(before[1])


def attributes(trial: Trial) -> dict[str, Any]:
    """A trial's user attributes: what the dashboard shows beside the value."""
    return {"number": trial.number, "runs": list(trial.runs), **trial.attrs}


def mark(attrs: Mapping[str, Any]) -> tuple[Any, Any]:
    """By what a trial is known: its number and its runs, whose ids hold all that matters."""
    return attrs.get("number"), attrs.get("runs")


def frozen(trial: Trial, ranges: Ranges) -> "optuna.trial.FrozenTrial":
    """A finished trial in Optuna's words; a default outside the range widens it."""
    import optuna

    space: dict[str, Any] = {}
    for name, interval in ranges.items():
        value = float(trial.hparams[name])
        low, high = min(interval.low, value), max(interval.high, value)
        space[name] = optuna.distributions.FloatDistribution(
            low, high, log=interval.log and low > 0
        )
    failed = trial.value is None
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.FAIL if failed else optuna.trial.TrialState.COMPLETE,
        value=trial.value,
        params={name: float(trial.hparams[name]) for name in ranges},
        distributions=space,
        user_attrs=attributes(trial),
    )
