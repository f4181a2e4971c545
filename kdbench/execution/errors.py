"""Why a study ended early, or cannot start."""

from kdbench.errors import KdbenchError


class Interrupted(KeyboardInterrupt):
    """The study was asked to stop (Ctrl-C, SIGTERM); what is done is kept."""

    def __init__(self) -> None:
        super().__init__("Every finished run and the last epoch of the others are kept.")


class TeacherFailed(KdbenchError):
    """A teacher diverged or failed, so nothing that needs it can run."""


class WorkerCannotStart(KdbenchError):
    """A worker process ends before it has done anything, so starting another would not help."""


class InvalidOption(KdbenchError, ValueError):
    """An option that cannot be met; the message says what to do."""
