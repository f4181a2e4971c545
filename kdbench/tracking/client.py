"""Where MLflow's store is, and a quiet client."""

import getpass
import logging
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench.masking import remember, safe_uri
from kdbench.tracking.database import sqlite_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: Settings for MLflow where the user made none. Its own waits (7 tries of 2 minutes)
#: would hold the end of a study for an hour when a server is away; `BackgroundSync`
#: tries again by itself.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

#: Loggers that would write into the progress bar, and from which level on they may.
LOGGERS = {
    "mlflow": logging.WARNING,
    "mlflow.system_metrics": logging.CRITICAL,  # what a GPU cannot tell is left out
    "mlflow.store": logging.CRITICAL,  # errors reach the user once, as a warning
    "alembic": logging.WARNING,
    "urllib3.connectionpool": logging.ERROR,
}


def tracking_uri(root: Path) -> str:
    """`MLFLOW_TRACKING_URI` where set, else a SQLite database in `root`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(root.resolve() / "mlflow.db")


def is_served(uri: str) -> bool:
    """Whether a server answers at `uri`, and so decides where artifacts go."""
    return not re.match(r"(sqlite|postgresql|mysql|mssql)(\+\w+)?:", uri)


def artifact_location(root: Path, study: str, uri: str) -> str | None:
    """Where a study's artifacts go, as a URI; None where a server decides."""
    return None if is_served(uri) else (root.resolve() / "mlartifacts" / study).as_uri()


def prepare() -> None:
    """Set MLflow's environment and loggers. Imports MLflow (a second)."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401  its import configures the loggers, so ours come after

    for name, level in LOGGERS.items():
        logging.getLogger(name).setLevel(level)


def user() -> str:
    """Who creates a run, as MLflow shows it; `unknown` where the system has no name for them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may be a number alone
        return "unknown"


def client(uri: str) -> "MlflowClient":
    """A client of the store at `uri`; the first one creates a SQLite database (1 to 3 s)."""
    prepare()
    remember(uri)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def close_connections(uri: str) -> None:
    """Close the connections that MLflow keeps to a database: its file can then be moved."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    engine = SqlAlchemyStore._engine_map.get(uri)  # MLflow has no call for it
    if engine is not None:
        engine.dispose()


def ui_command(root: Path, port: int) -> list[str]:
    """The command that serves MLflow's pages for the database of `root` on this machine only.

    An address with secrets goes into the environment, as arguments are shown to everybody
    on the machine.
    """
    uri = tracking_uri(root)
    command = [sys.executable, "-m", "mlflow", "ui"]
    if safe_uri(uri) == uri:
        command += ["--backend-store-uri", uri]
    else:
        os.environ["MLFLOW_BACKEND_STORE_URI"] = uri
    artifacts = (root.resolve() / "mlartifacts").as_uri()
    command += ["--default-artifact-root", artifacts]
    return [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
