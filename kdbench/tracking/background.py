"""The thread that keeps MLflow level while a study runs, and that nothing can stop.

Training says which run has something new (`touch`) and goes on at once. What MLflow
raises is told once, as a warning, and tried again with growing waits; whatever remains
is left to `kdbench sync`, because the records hold all of it.
"""

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from kdbench.records.plan_file import PlannedRun
from kdbench.records.store import Store
from kdbench.tracking.artifacts import attach_report
from kdbench.tracking.client import redact, safe_uri
from kdbench.tracking.experiment import Levelling
from kdbench.tracking.sync import Tracker, is_busy

#: Waits between tries in seconds: the first, and the longest.
FIRST, LONGEST = 1.0, 60.0

#: After so many failures in a row MLflow is taken to be away, and the rest waits.
IN_A_ROW = 3

#: Seconds that one request may hold up the next caller.
HELD = 60.0


class Mirror:
    """One study's mirror. No method raises what MLflow raises.

    `on_trouble` gets one plain sentence the first time something fails. `close` must be
    called at the end; until then the runs that were touched count as being trained.
    Several processes may have one each for the same study and root.
    """

    def __init__(
        self,
        store: Store,
        study: str,
        uri: str,
        on_trouble: Callable[[str], None] | None = None,
    ) -> None:
        self.tracker = Tracker(store, study, uri)
        self._on_trouble = on_trouble
        self._told = False
        self._dirty: dict[str, PlannedRun | None] = {}  # in the order of being touched
        self._seen: dict[str, PlannedRun | None] = {}
        self._working: set[str] = set()
        self._news = threading.Condition()
        self._using = threading.Lock()  # the tracker is for one thread at a time
        self._closing = False
        self._deadline = float("inf")
        self._thread: threading.Thread | None = None

    # -- for the one who trains

    def open(self, timeout: float = 60.0) -> bool:
        """Create the database and the experiment: first, and before any worker starts.

        Whether that worked within `timeout` seconds; if not, the mirror's thread tries
        again.
        """
        opener = threading.Thread(target=self._attempt, args=(self._open,), daemon=True)
        opener.start()
        opener.join(timeout)
        if opener.is_alive():
            self._tell(TimeoutError(f"no answer within {timeout:g} s"))
        return self.tracker.is_open

    def start(self) -> None:
        """Start the thread. It is a daemon: a program that ends never waits for MLflow."""
        self._thread = threading.Thread(target=self._work, name="kdbench-mlflow", daemon=True)
        self._thread.start()

    def touch(self, run_id: str, entry: PlannedRun | None = None) -> None:
        """Say that a run's record has something new. Returns at once.

        `entry` is its line of the plan's listing; without it the plan on disk is asked.
        """
        with self._news:
            entry = entry or self._seen.get(run_id)
            self._dirty[run_id] = self._seen[run_id] = entry
            self._news.notify()

    def level(self, run_id: str, entry: PlannedRun, live: bool = True) -> bool:
        """Bring one run level now; whether MLflow took it."""
        return self._attempt(partial(self._level, run_id, entry, live))

    def behind(self) -> int:
        """How many runs MLflow does not yet show as their records are."""
        with self._news:
            return len(self._working | set(self._dirty))

    def attach_report(self, folder: Path) -> bool:
        """Attach the files of `folder` to the study's own run; whether MLflow took them."""

        def attach() -> None:
            self._open()
            attach_report(self.tracker.store, self.tracker.study, self.tracker.uri, folder)

        return self._attempt(attach)

    def close(self, timeout: float = 60.0) -> int:
        """Log what is left, for at most `timeout` seconds; how many runs stay behind.

        Runs that are not finished are shown as interrupted from now on, unless another
        process trains them, and finals get what became known after them: the teacher's
        scores, the calibrated costs.
        """
        with self._news:
            for run_id, entry in self._seen.items():
                self._dirty.setdefault(run_id, entry)
            self._closing = True
            self._deadline = time.monotonic() + timeout
            self._news.notify()
        if self._thread is not None:
            self._thread.join(timeout)
        return self.behind()

    # -- in the thread

    def _work(self) -> None:
        wait = FIRST
        while True:
            with self._news:
                while not (self._dirty or self._closing):
                    self._news.wait()
                closing = self._closing
            worked = self._pass(live=not closing)
            if closing and worked:
                self._attempt(self.tracker.settle)
                return
            wait = FIRST if worked else min(2 * wait, LONGEST)
            if not worked and not self._rest(0.2 if closing else wait):
                return

    def _pass(self, live: bool) -> bool:
        """Level all that is dirty; whether nothing failed."""
        with self._news:
            batch, self._dirty = self._dirty, {}
            self._working = set(batch)
        failed: dict[str, PlannedRun | None] = {}
        in_a_row = 0
        for run_id, entry in batch.items():
            late = time.monotonic() > self._deadline
            if in_a_row >= IN_A_ROW or late:
                failed[run_id] = entry
                continue
            if self._attempt(partial(self._level, run_id, entry, live)):
                in_a_row = 0
                with self._news:
                    self._working.discard(run_id)
            else:
                in_a_row += 1
                failed[run_id] = entry
        with self._news:
            self._working = set()
            self._dirty = failed | self._dirty
        return not failed

    def _rest(self, seconds: float) -> bool:
        """Wait, or until `close` is called; False when there is no time for another try."""
        with self._news:
            if self._closing:
                self._news.wait(seconds)
            else:
                self._news.wait_for(lambda: self._closing, seconds)
            return time.monotonic() < self._deadline

    def _open(self) -> None:
        if not self.tracker.is_open:
            self.tracker.open()

    def _level(self, run_id: str, entry: PlannedRun | None, live: bool) -> None:
        self._open()
        plan = self.tracker.plan
        entry = entry or (plan.listing.get(run_id) if plan else None)
        if entry is None:
            raise LookupError(f"run {run_id} is not in the plan of {self.tracker.study}")
        live = live or is_busy(self.tracker.store.record(run_id))
        self.tracker.level(run_id, entry, live)

    def _attempt(self, work: Callable[[], Any]) -> bool:
        """Do `work` and swallow what it raises, after telling it once."""
        # A thread that still waits for an answer after `close` must not hold up a report.
        if not self._using.acquire(timeout=HELD):
            self._tell(TimeoutError(f"no answer within {HELD:g} s"))
            return False
        try:
            work()
        except Levelling:
            return False  # no trouble: another process is at it, and this is tried again
        except Exception as error:
            self._tell(error)
            return False
        finally:
            self._using.release()
        return True

    def _tell(self, error: Exception) -> None:
        if self._told or self._on_trouble is None:
            return
        self._told = True
        uri = self.tracker.uri
        # Made safe before it is cut: half an address can hold a whole password.
        why = redact(" ".join(str(error).split()), uri)[:200] or type(error).__name__
        self._on_trouble(
            f"MLflow at {safe_uri(uri)} does not take what is logged ({why}). The training "
            "goes on and the records are complete; this is tried again, and `kdbench sync "
            f"{self.tracker.study}` brings MLflow level later."
        )
