"""The links from a report's page to the pages of its runs in MLflow.

A report is the same bytes wherever its runs were made, and MLflow's ids are not. So the links stand
in a file beside the report's folder, where neither `kdbench check` nor what copies or attaches the
folder meets it. The page works without it.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from kdbench.records.files import atomic_write
from kdbench.records.store import Store
from kdbench.report.data.report_data import ReportData
from kdbench.tracking import is_served, run_page, server, tracking_uri, view_page
from kdbench.tracking.known import mlflow_run
from kdbench.tracking.leaderboard import LEADERBOARD
from kdbench.tracking.links import PORT

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
    _write(folder.with_name(folder.name + SUFFIX), pages)


def lead_run_pages_to(root: Path, port: int) -> None:
    """Have the links of every report in `root` that need `kdbench ui` lead to it at `port`."""
    base = server(tracking_uri(root), port)
    for path in (root / "reports").glob(f"*{SUFFIX}"):
        pages = _read(path)
        if pages and pages["serve"]:
            text = re.sub(r'"http://127\.0\.0\.1:\d+/', f'"{base}/', json.dumps(pages))
            command = re.sub(r" --port \d+$", "", pages["serve"])
            asked = "" if port == PORT else f" --port {port}"
            _write(path, json.loads(text) | {"serve": command + asked})


def _write(path: Path, pages: dict[str, Any]) -> None:
    # Percent signs leave nothing that could end a text in a stylesheet.
    text = quote(json.dumps(pages, indent=1), safe=" :/#?=&{},")
    atomic_write(path, f':root {{ --run-pages: "{text}"; }}\n'.encode())


def _read(path: Path) -> dict[str, Any] | None:
    """What `_write` has written; None where the file is another one."""
    if match := re.fullmatch(r':root \{ --run-pages: "([^"]*)"; \}\n', path.read_text("utf-8")):
        pages: dict[str, Any] = json.loads(unquote(match[1]))
        return pages
    return None
