"""Tuning's points and its ledger: which knobs a trial tries, and an Optuna study of what came.

The points depend on nothing but the tuning seed, names, and the trials finished before,
so a tuning that was interrupted goes on with the very same ones. The records are the
truth; the Optuna study is written from them for people to look at with optuna-dashboard.
No torch here, and Optuna only when needed.
"""

import hashlib
import json
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from filelock import FileLock

from kdbench.store import write_whole
from kdbench.track.uris import pieces, redact, safe_uri, tracking_uri

if TYPE_CHECKING:
    import optuna

SAMPLERS = ("random", "tpe")

#: Trials that are asked together: what they give is known only to the next round.
ROUND = 4

#: Where another storage for the ledger is named, as an address that Optuna takes.
STORAGE = "KDBENCH_OPTUNA_STORAGE"

#: Seconds to wait for another process that writes the ledger, and before the next try.
PATIENCE, REST = 60.0, 60.0

log = logging.getLogger(__name__)

#: Digits kept of a knob, so that tables and specs stay readable.
DIGITS = 6


class Interval(Protocol):
    """What is needed of a search range: ends included, `log` for uniform in log scale."""

    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def log(self) -> bool: ...


Ranges = Mapping[str, Interval]
#: Finished trials by number: their knobs, and their score (None: diverged).
Finished = Mapping[int, tuple[Mapping[str, float], float | None]]


# -- points


def points(
    sampler: str,
    ranges: Ranges,
    defaults: Mapping[str, float],
    count: int,
    seed: int,
    label: str,
    finished: Finished,
) -> list[dict[str, float]]:
    """The knobs of the trials 0, 1, ... as far as they can be known now, at most `count`.

    Trial 0 is `defaults`. `random` knows all at once; `tpe` knows a round of `ROUND`
    trials when all trials before that round are finished. Scores are higher-is-better.
    Raises `ValueError` for a sampler that is not in `SAMPLERS`.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"unknown sampler {sampler!r}: one of {', '.join(SAMPLERS)}")
    found = [{name: float(defaults[name]) for name in ranges}]
    if sampler == "random" or not ranges:
        found += [
            {name: draw(ranges[name], seed, name, number) for name in ranges}
            for number in range(1, count)
        ]
        return found[:count]
    for first in range(0, count, ROUND):
        if any(number not in finished for number in range(first)):
            break
        history = [finished[number] for number in range(first)]
        # A round is asked whole, the default being one of the first, so that the points
        # do not depend on how many are wanted.
        found += tpe_round(ranges, history, first + ROUND - len(found), seed, label)
    return found[:count]


def stream(*key: Any) -> np.random.SeedSequence:
    """A seed sequence that is a function of `key` only, whatever the machine."""
    text = "\n".join(str(part) for part in key)
    return np.random.SeedSequence(int.from_bytes(hashlib.sha256(text.encode()).digest(), "big"))


def draw(interval: Interval, seed: int, name: str, number: int) -> float:
    """Draw `number` of the knob `name`: nothing else has a say, so methods share draws."""
    share = np.random.default_rng(stream("kdbench.draw", seed, name, number)).random()
    if not interval.log:
        return tidy(interval.low + share * (interval.high - interval.low), interval)
    low, high = math.log(interval.low), math.log(interval.high)
    return tidy(math.exp(low + share * (high - low)), interval)


def tidy(value: float, interval: Interval) -> float:
    """`value` to `DIGITS` significant digits, inside the interval."""
    return min(max(float(f"{value:.{DIGITS}g}"), interval.low), interval.high)


def tpe_round(
    ranges: Ranges,
    history: Sequence[tuple[Mapping[str, float], float | None]],
    count: int,
    seed: int,
    label: str,
) -> list[dict[str, float]]:
    """`count` points of Optuna's TPE after `history`, a pure function of the arguments."""
    import optuna

    quieten()
    space: dict[str, Any] = {name: distribution(interval) for name, interval in ranges.items()}
    key = stream("kdbench.tpe", seed, label, len(history))
    with experimental():
        # Written out, because Optuna 5 changed these defaults and points must stay. The
        # arguments that are not here are deprecated, and a test holds what they give.
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=ROUND,
            n_ei_candidates=24,
            seed=int(key.generate_state(1)[0]),
            multivariate=True,
            group=False,
            constant_liar=True,
        )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for knobs, score in history:
        # A default may lie outside of what is searched, and TPE cannot look there. A
        # diverged trial counts as the worst possible: left out, it would be tried again.
        values = {n: min(max(float(knobs[n]), ranges[n].low), ranges[n].high) for n in ranges}
        trial = optuna.trial.create_trial(
            params=values, distributions=space, value=0.0 if score is None else score
        )
        study.add_trial(trial)
    asked = [study.ask(fixed_distributions=space).params for _ in range(count)]
    return [{name: tidy(params[name], ranges[name]) for name in ranges} for params in asked]


def distribution(interval: Interval) -> "optuna.distributions.FloatDistribution":
    """The interval in Optuna's words."""
    import optuna

    return optuna.distributions.FloatDistribution(interval.low, interval.high, log=interval.log)


def quieten() -> None:
    """No lines of Optuna's own in the terminal."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)


@contextmanager
def experimental() -> Iterator[None]:
    """Use what Optuna calls experimental without its warning."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


# -- choice


def best(finished: Mapping[int, tuple[float, float] | None]) -> int:
    """The number of the best trial: highest accuracy, then lower NLL, then lower number.

    Values are (validation accuracy as a fraction, validation NLL in nats); None, and an
    accuracy that is no number, is a trial that diverged. Raises `ValueError` where no
    trial is left.
    """
    order = {
        number: (-score[0], score[1] if math.isfinite(score[1]) else math.inf, number)
        for number, score in finished.items()
        if score is not None and math.isfinite(score[0])
    }
    if not order:
        raise ValueError(f"none of {len(finished)} trials can be chosen: all diverged")
    return min(order, key=lambda number: order[number])


# -- ledger


@dataclass(frozen=True)
class Trial:
    """A finished trial. `value` is the validation accuracy (a fraction), None if it diverged."""

    number: int
    knobs: Mapping[str, float]
    value: float | None
    runs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)


class Ledger:
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
            kept = salvage(self.path, self._lock)
            if kept is not None:
                self._say(
                    f"{self.path} was damaged, as a killed process or a full disk leaves it; "
                    f"it is written anew from the records, and the old file is {kept.name}"
                )
            self._storage = journal(self.path, self._lock)
            self._seen = glance(self.path)
        return self._storage

    def _as_it_was(self) -> bool:
        """Whether the journal is still the file that was opened, and ends with a whole line."""
        try:
            now, whole = glance(self.path), ends_whole(self.path)
        except FileNotFoundError:
            return False
        before, self._seen = self._seen, now
        return whole and now[0] >= before[0] and now[1].startswith(before[1])


def database(url: str) -> "optuna.storages.BaseStorage":
    """The Optuna storage at `url`; a server that is away is known to be after seconds."""
    from optuna.storages import RDBStorage

    waits = url.startswith("postgresql") and "connect_timeout" not in url
    options = {"connect_args": {"connect_timeout": 10}} if waits else {}
    return RDBStorage(url, engine_kwargs=options | {"pool_pre_ping": True})


def journal(path: Path, lock: FileLock) -> "optuna.storages.BaseStorage":
    """The journal in `path`. Raises `ValueError` and others where it makes no sense."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    # Our lock ends with its process; Optuna's own outlives a kill by 30 s.
    return JournalStorage(JournalFileBackend(str(path), lock))  # type: ignore[arg-type]


def glance(path: Path) -> tuple[int, bytes]:
    """A file's size and its beginning, where a journal names the process that began it."""
    with path.open("rb") as file:
        return os.fstat(file.fileno()).st_size, file.read(100)


def ends_whole(path: Path) -> bool:
    """Whether the file's last line was written to its end."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def salvage(path: Path, lock: FileLock) -> Path | None:
    """Put a damaged journal aside and its whole beginning in its place; where it is now.

    None where the file is whole, or missing. Records bring back what is lost, and the
    beginning keeps the studies that nobody levels just now.
    """
    if not path.exists():
        return None
    lines = path.read_bytes().splitlines(keepends=True)
    good = 0
    while good < len(lines) and is_entry(lines[good]):
        good += 1
    kept = b"".join(lines[:good])
    if good == len(lines):
        try:
            journal(path, lock)
        except Exception:
            kept = b""  # whole lines of something else
        else:
            return None
    aside = next(
        place
        for number in range(1, 1_000_000)
        if not (place := path.with_name(f"{path.name}.damaged-{number}")).exists()
    )
    path.rename(aside)
    write_whole(path, kept)
    return aside


def is_entry(line: bytes) -> bool:
    """Whether a line of the journal is one whole JSON object."""
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False


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
        value = float(trial.knobs[name])
        low, high = min(interval.low, value), max(interval.high, value)
        space[name] = optuna.distributions.FloatDistribution(
            low, high, log=interval.log and low > 0
        )
    failed = trial.value is None
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.FAIL if failed else optuna.trial.TrialState.COMPLETE,
        value=trial.value,
        params={name: float(trial.knobs[name]) for name in ranges},
        distributions=space,
        user_attrs=attributes(trial),
    )
