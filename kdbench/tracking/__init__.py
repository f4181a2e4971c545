"""MLflow, which shows what the records on disk hold. No torch here, and MLflow only when needed.

BackgroundSync(store, study, uri)   keep MLflow up to date while a study runs; never stops it
sync_study(store, study, uri)       bring the experiment up to date with the records
search, curves                      what the experiment holds, as pandas frames
attach_report                       attach a report's files to the study's own run
study_pages                         where a browser shows the runs of a study
stale_runs, repair_stale            find and repair what killed processes left in MLflow
broken_database, rebuild_database   find and replace a database that cannot be read
"""

from kdbench.tracking.artifacts import attach_report
from kdbench.tracking.background import BackgroundSync
from kdbench.tracking.client import is_served, tracking_uri, ui_command
from kdbench.tracking.links import run_page, runs_page, server, study_pages, view_page
from kdbench.tracking.read import curves, search
from kdbench.tracking.repair import (
    StaleRun,
    broken_database,
    rebuild_database,
    repair_stale,
    stale_runs,
)
from kdbench.tracking.sync import sync_study

__all__ = [
    "BackgroundSync",
    "StaleRun",
    "attach_report",
    "broken_database",
    "curves",
    "is_served",
    "rebuild_database",
    "repair_stale",
    "run_page",
    "runs_page",
    "search",
    "server",
    "stale_runs",
    "study_pages",
    "sync_study",
    "tracking_uri",
    "ui_command",
    "view_page",
]
