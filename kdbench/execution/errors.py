"""Why a study ended early."""


class Interrupted(Exception):
    """The study was asked to stop; what is done is kept."""


class TeacherFailed(Exception):
    """A teacher diverged or failed, so nothing that needs it can run."""
