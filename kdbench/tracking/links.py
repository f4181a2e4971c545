"""Addresses of MLflow's pages: where a study's runs are shown.

The address of the server alone leads to pages about something else.
"""

from pathlib import Path

from kdbench.errors import KdbenchError
from kdbench.masking import pieces, safe_uri
from kdbench.tracking.client import client, is_served, tracking_uri
from kdbench.tracking.database import check_readable, is_missing, sqlite_path
from kdbench.tracking.experiment import find_experiment
from kdbench.tracking.leaderboard import TITLES, VIEW

#: The port at which `kdbench ui` serves MLflow's pages unless it is told another.
PORT = 5000


class NoStore(KdbenchError, FileNotFoundError):
    """There is no MLflow database in this root."""


class NoPages(KdbenchError, ValueError):
    """The store is at an address that no browser opens."""


def server(uri: str, port: int = PORT) -> str | None:
    """The address of the server that shows the store at `uri`: its own, without user, password and
    query, or that of `kdbench ui`. None where no browser opens it."""
    if not is_served(uri):
        return f"http://127.0.0.1:{port}"
    scheme, _, where, _ = pieces(uri)
    return f"{scheme}://{where.rstrip('/')}" if scheme in ("http", "https") else None


def runs_page(base: str, experiment: str) -> str:
    """The page of an experiment's runs at the server `base`."""
    return f"{base}/#/experiments/{experiment}/runs?workflowType=machine_learning"


def view_page(base: str, experiment: str, view: str) -> str:
    """The page of an experiment's runs in a saved view."""
    return f"{runs_page(base, experiment)}&viewStateShareKey={view}"


def run_page(base: str, experiment: str, run: str) -> str:
    """The page of one run."""
    return f"{base}/#/experiments/{experiment}/runs/{run}"


def study_pages(root: Path, study: str = "", port: int = PORT) -> dict[str, str]:
    """The page of the runs of `study`, or of every study in the store of `root`, and their saved
    views, by what they show.

    Raises `NoStore` where there is no database, `UnknownExperiment`, `BrokenDatabase`, `NoPages`
    and what MLflow raises.
    """
    uri = tracking_uri(root)
    base, path = server(uri, port), sqlite_path(uri)
    if base is None:
        raise NoPages(f"MLflow's store {safe_uri(uri)} has no pages that a browser can open")
    if path is not None and is_missing(path):
        raise NoStore(
            f"there is no MLflow database at {safe_uri(uri)}: run `kdbench study NAME` in this "
            "root, or `kdbench sync NAME` where the study was run already"
        )
    if study:
        connected, experiment = find_experiment(study, uri)
        found = [connected.get_experiment(experiment)]
    else:
        if path is not None:
            check_readable(path)
        found = client(uri).search_experiments(filter_string="tags.`kdbench.study` LIKE '%'")
    pages = {}
    for each in found:
        for view in TITLES:
            if VIEW + view in each.tags:
                pages[f"{each.name} {view}"] = view_page(base, each.experiment_id, view)
        pages[f"{each.name} runs"] = runs_page(base, each.experiment_id)
    return pages
