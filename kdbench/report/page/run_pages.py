"""The links from a report's page to the pages of its runs in MLflow.

A report is the same bytes wherever its runs were made, and MLflow's ids are not. So the links stand
in a file beside the report's folder, where neither `kdbench check` nor what copies or attaches the
folder meets it. The page works without it.
"""

import json
import shlex
from urllib.parse import quote

from kdbench.records.files import atomic_write
from kdbench.records.store import Store
from kdbench.report.data.report_data import ReportData
from kdbench.tracking import is_served, run_page, server, tracking_uri, view_page
from kdbench.tracking.known import mlflow_run
from kdbench.tracking.leaderboard import LEADERBOARD

SUFFIX = ".mlflow.css"
"""The name of the file is the study's with this behind it."""


def run_pages_address(study: str) -> str:
    """The address of the file as the page of the study's report gives it."""
    return f"../{quote(study, safe='')}{SUFFIX}"


def write_run_pages(store: Store, data: ReportData) -> None:
    """Write the links of a report whose runs and leaderboard MLflow has. MLflow is not asked: its
    ids are those in the records. Nothing is written where no browser opens MLflow's pages."""
    study, uri = data.plan.study, tracking_uri(store.root)
    base = server(uri)
    ids = sorted(set(data.runs["id"].dropna()))
    places = {run: mlflow_run(store.record(run), study, uri) for run in ids}
    known = {run: place for run, place in places.items() if place}
    if base is None or not known:
        return
    experiment, _ = next(iter(known.values()))
    pages = {
        "view": view_page(base, experiment, LEADERBOARD),
        "serve": "" if is_served(uri) else f"kdbench ui {shlex.quote(study)}",
        "runs": {run: run_page(base, *place) for run, place in known.items()},
    }
    folder = store.report_folder(study)
    # Percent signs leave nothing that could end a text in a stylesheet.
    text = quote(json.dumps(pages, indent=1), safe=" :/#?=&{},")
    content = f':root {{ --run-pages: "{text}"; }}\n'
    atomic_write(folder.with_name(folder.name + SUFFIX), content.encode())
