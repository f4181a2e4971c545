"""MLflow, as a mirror of the records on disk. No torch here, and MLflow only when needed.

Mirror(store, study, uri)   while a study runs: a thread that never stops the training
sync(store, study, uri)     bring the experiment level with the records
search, curves              what the experiment holds, as pandas frames
attach_report               a report's files in the study's own run
stale, mend                 what killed processes left in MLflow: look, then put right
"""

from kdbench.track.attach import attach_report
from kdbench.track.mend import Stale, mend, stale
from kdbench.track.mirror import Mirror
from kdbench.track.read import curves, search
from kdbench.track.tracker import Tracker, sync
from kdbench.track.uris import safe_uri, tracking_uri, ui_command

__all__ = [
    "Mirror",
    "Stale",
    "Tracker",
    "attach_report",
    "curves",
    "mend",
    "safe_uri",
    "search",
    "stale",
    "sync",
    "tracking_uri",
    "ui_command",
]
