"""The end of a study's tracking: MLflow is waited for, but not for long, and not in silence."""

import shlex

from kdbench.execution.protocols import ProgressReporter
from kdbench.records.store import Store
from kdbench.tracking import BackgroundSync

#: Seconds without a run brought up to date after which MLflow is left to `kdbench sync`; and
#: after a stop was requested.
TRACKING_TIMEOUT, STOPPED_TIMEOUT = 60.0, 5.0

#: Seconds between two messages that MLflow is waited for.
SAY_EVERY = 10.0


def close_tracker(
    tracker: BackgroundSync, study: str, store: Store, reporter: ProgressReporter, stopped: bool
) -> int:
    """Bring MLflow up to date, and say how long it is waited for and what is left; how many runs
    are left."""
    reporter.log("bringing MLflow up to date ...")
    said = 0.0

    def say(left: int, waited: float) -> None:
        nonlocal said
        if waited - said >= SAY_EVERY:
            said = waited
            reporter.log(
                f"MLflow: {left} runs left after {waited:.0f} s; Ctrl-C leaves them to `kdbench "
                f"sync {study}`"
            )

    if behind := tracker.close(STOPPED_TIMEOUT if stopped else TRACKING_TIMEOUT, say):
        command = shlex.join(["kdbench", "sync", study, "--root", str(store.root)])
        reporter.log(
            f"MLflow is {behind} runs behind the records; to bring it up to date: {command}"
        )
    return behind
