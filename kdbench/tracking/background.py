"""A thread that keeps MLflow up to date while a study runs, and that nothing can stop.

Training calls `touch` when a run's record has changed, and goes on at once. What MLflow
raises is reported once, as a warning, and tried again with growing waits. At the end only
errors that may pass are waited for; whatever remains is left to `kdbench sync`, because the
records hold all of it.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from kdbench.errors import KdbenchError
from kdbench.masking import mask, safe_uri
from kdbench.records.plan_file import PlannedRun
from kdbench.records.store import Store
from kdbench.tracking.artifacts import attach_report
from kdbench.tracking.experiment import StudyExperiment, SyncBusy
from kdbench.tracking.failures import may_pass
from kdbench.tracking.leaderboard import MethodTable
from kdbench.tracking.repair import end_dropped_runs
from kdbench.tracking.sync import is_busy, sync_run
from kdbench.tracking.system_metrics import SystemMetrics

#: Waits between tries in seconds: the first, and the longest.
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0

#: After so many failures in a row MLflow is taken to be away, and the rest waits.
FAILURES_IN_A_ROW = 3

#: Seconds that one request may hold up the next caller.
REQUEST_TIMEOUT = 60.0

#: Stands for the experiment among the runs whose errors do not pass.
EXPERIMENT = ""

#: Seconds between two looks at the thread while it is waited for.
LOOK_EVERY = 0.1


class UnknownRun(KdbenchError, LookupError):
    """A run that is not in the plan of the study."""


class BackgroundSync:
    """Keeps one study's experiment up to date. No method raises what MLflow raises.

    `on_trouble` gets one plain sentence the first time something fails. `close` must be
    called at the end; until then the runs that were touched count as being trained. `question`
    is the study's, where its plan is not written yet. `system_metrics` logs this machine's load.
    Several processes may have one each for the same study and root.
    """

    def __init__(
        self,
        store: Store,
        study: str,
        uri: str,
        on_trouble: Callable[[str], None] | None = None,
        question: str = "",
        system_metrics: bool = False,
    ) -> None:
        self.experiment = StudyExperiment(store, study, uri, question=question)
        self._on_trouble = on_trouble
        self._log_load = system_metrics
        self._reported: set[bool] = set()  # whether the error may pass
        self._waiting: dict[str, PlannedRun | None] = {}  # in the order of being touched
        self._touched: dict[str, PlannedRun | None] = {}
        self._syncing: set[str] = set()
        self._logged = 0  # runs that were brought up to date, each as often as that was done
        self._changed = threading.Condition()
        self._in_use = threading.Lock()  # the experiment is for one thread at a time
        self._in_vain: Counter[str] = Counter()  # tries in a row whose errors do not pass
        self._dropped_runs_ended = False
        self._closing = self._given_up = False
        self._thread: threading.Thread | None = None

    # -- called while training

    def open(self, timeout: float = 20.0, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Create the database and the experiment, before any worker starts.

        Returns whether that worked within `timeout` seconds, and before `stopped` said that
        nobody waits any more; if not, the thread tries again.
        """
        opener = threading.Thread(target=self._attempt, args=(self._open,), daemon=True)
        opener.start()
        end = time.monotonic() + timeout
        while opener.is_alive() and not stopped():
            if time.monotonic() >= end:
                self._report(TimeoutError(f"no answer within {timeout:g} s"))
                break
            opener.join(min(timeout, LOOK_EVERY))
        return self.experiment.is_open

    def start(self) -> None:
        """Start the thread. It is a daemon: a program that ends never waits for MLflow."""
        self._thread = threading.Thread(target=self._work, name="kdbench-mlflow", daemon=True)
        self._thread.start()

    def touch(self, run_id: str, planned: PlannedRun | None = None) -> None:
        """Note that a run's record has changed. Returns at once.

        Without `planned` the plan on disk is read.
        """
        with self._changed:
            planned = planned or self._touched.get(run_id)
            self._waiting[run_id] = self._touched[run_id] = planned
            self._changed.notify()

    def sync_run(self, run_id: str, planned: PlannedRun, live: bool = True) -> bool:
        """Bring MLflow up to date with one run now; whether that worked."""
        return self._attempt(partial(self._sync_run, run_id, planned, live))

    def out_of_date(self) -> int:
        """How many runs MLflow does not yet show as their records are."""
        with self._changed:
            return len(self._syncing | set(self._waiting))

    def attach_report(
        self, folder: Path, answer: str = "", table: MethodTable | None = None
    ) -> bool:
        """Attach the files of `folder` to the study's own run, with the `answer` that they give,
        and the rows of `table` to the methods' runs; whether that worked."""

        def attach() -> None:
            self._open()
            here = self.experiment
            attach_report(here.store, here.study, here.uri, folder, answer, table)

        return self._attempt(attach)

    def close(
        self, timeout: float = 60.0, on_wait: Callable[[int, float], None] | None = None
    ) -> int:
        """Log what is left; how many runs stay out of date.

        Ends when all is logged, when what fails does not pass by itself, or when no run was
        brought up to date for `timeout` seconds. `on_wait` gets (runs left, seconds waited)
        over and over. Runs that are not finished are shown as interrupted from now on, unless
        another process trains them, and finals get what became known after them: fidelity to
        the teacher, the measured costs.
        """
        with self._changed:
            for run_id, planned in self._touched.items():
                self._waiting.setdefault(run_id, planned)
            self._closing = True
            self._changed.notify()
        began = progressed = time.monotonic()
        logged = self._logged
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(min(timeout, LOOK_EVERY))
            now = time.monotonic()
            if self._logged != logged:
                logged, progressed = self._logged, now
            if now - progressed >= timeout:
                break
            if on_wait:
                on_wait(self.out_of_date(), now - began)
        with self._changed:
            self._given_up = True
        return self.out_of_date()

    # -- in the thread

    def _work(self) -> None:
        wait, load = FIRST_WAIT, SystemMetrics() if self._log_load else None
        while True:
            with self._changed:
                woken = self._changed.wait_for(
                    lambda: self._waiting or self._closing, load.wait if load else None
                )
                closing = self._closing
            succeeded = not woken or self._sync_waiting(live=not closing)
            if load and succeeded and not closing and not load.wait:
                self._attempt(partial(load.log, self.experiment))
            if not woken:
                continue
            if succeeded and not self._dropped_runs_ended:
                # By now the plan on disk is the study as it is.
                self._dropped_runs_ended = self._attempt(self._end_dropped_runs)
            if closing and succeeded:
                self._attempt(self.experiment.end_group_runs)
                return
            if closing and self._is_hopeless():
                return
            wait = FIRST_WAIT if succeeded else min(2 * wait, LONGEST_WAIT)
            if not succeeded and not self._rest(0.2 if closing else wait):
                return

    def _sync_waiting(self, live: bool) -> bool:
        """Sync every run that waits; whether nothing failed."""
        with self._changed:
            batch, self._waiting = self._waiting, {}
            self._syncing = set(batch)
        failed: dict[str, PlannedRun | None] = {}
        in_a_row = 0
        opened = not batch or self._attempt(self._open, EXPERIMENT)
        for run_id, planned in batch.items():
            if not opened or in_a_row >= FAILURES_IN_A_ROW or self._given_up:
                failed[run_id] = planned
                continue
            if self._attempt(partial(self._sync_run, run_id, planned, live), run_id):
                in_a_row = 0
                with self._changed:
                    self._syncing.discard(run_id)
                    self._logged += 1
            else:
                in_a_row += not self._in_vain[run_id]
                failed[run_id] = planned
        with self._changed:
            self._syncing = set()
            self._waiting = failed | self._waiting
        return not failed

    def _is_hopeless(self) -> bool:
        """Whether waiting helps none of the runs that are left."""
        # A run that was deleted in MLflow fails once, and is then created again.
        hopeless = {run_id for run_id, tries in self._in_vain.items() if tries > 1}
        return EXPERIMENT in hopeless or hopeless >= self._waiting.keys()

    def _rest(self, seconds: float) -> bool:
        """Wait, or until `close` is called; False when there is no time for another try."""
        with self._changed:
            if self._closing:
                self._changed.wait(seconds)
            else:
                self._changed.wait_for(lambda: self._closing, seconds)
            return not self._given_up

    def _open(self) -> None:
        if not self.experiment.is_open:
            self.experiment.open()

    def _sync_run(self, run_id: str, planned: PlannedRun | None, live: bool) -> None:
        self._open()
        plan = self.experiment.plan
        planned = planned or (plan.listing.get(run_id) if plan else None)
        if planned is None:
            raise UnknownRun(f"run {run_id} is not in the plan of {self.experiment.study}")
        live = live or is_busy(self.experiment.store.record(run_id))
        sync_run(self.experiment, run_id, planned, live)

    def _end_dropped_runs(self) -> None:
        self._open()
        end_dropped_runs(self.experiment)

    def _attempt(self, work: Callable[[], Any], run_id: str | None = None) -> bool:
        """Do `work`; whether it raised nothing. The first error of each kind is reported, and
        those that do not pass are counted for `run_id`."""
        # A thread that still waits for an answer after `close` must not hold up a report.
        if not self._in_use.acquire(timeout=REQUEST_TIMEOUT):
            self._report(TimeoutError(f"no answer within {REQUEST_TIMEOUT:g} s"))
            return False
        try:
            work()
        except SyncBusy:
            return False  # another process does it just now, and this is tried again
        except Exception as error:
            if run_id is not None:
                self._in_vain[run_id] = 0 if may_pass(error) else self._in_vain[run_id] + 1
            self._report(error)
            return False
        finally:
            self._in_use.release()
        if run_id is not None:
            self._in_vain[run_id] = 0
        return True

    def _report(self, error: Exception) -> None:
        passing = may_pass(error)
        if passing in self._reported or self._on_trouble is None:
            return
        self._reported.add(passing)
        uri = self.experiment.uri
        # Masked before it is cut: half an address can hold a whole password.
        why = mask(" ".join(str(error).split()))[:300] or type(error).__name__
        sync = f"`kdbench sync {self.experiment.study}` brings MLflow up to date"
        then = f"This is tried again, and {sync} later" if passing else f"Once it is mended, {sync}"
        self._on_trouble(
            f"MLflow at {safe_uri(uri)} does not take what is logged ({why}). The training goes "
            f"on and the records are complete. {then}."
        )
