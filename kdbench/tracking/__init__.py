"""MLflow, as a mirror of the records on disk. No torch here, and MLflow only when needed.

Mirror(store, study, uri)   while a study runs: a thread that never stops the training
sync(store, study, uri)     bring the experiment level with the records
search, curves              what the experiment holds, as pandas frames
attach_report               a report's files in the study's own run
stale, mend                 what killed processes left in MLflow: look, then put right
"""

from kdbench.tracking.artifacts import attach_report
from kdbench.tracking.background import Mirror
from kdbench.tracking.client import safe_uri, tracking_uri, ui_command
from kdbench.tracking.read import curves, search
from kdbench.tracking.repair import Stale, repair_stale, stale
from kdbench.tracking.sync import Tracker, sync

__all__ = [
    "Mirror",
    "Stale",
    "Tracker",
    "attach_report",
    "curves",
    "repair_stale",
    "safe_uri",
    "search",
    "stale",
    "sync",
    "tracking_uri",
    "ui_command",
]
