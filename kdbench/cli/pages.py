"""`kdbench ui`: MLflow's pages, and the link that leads to a study's runs."""

import os
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from pathlib import Path
from typing import Any

from kdbench import tracking
from kdbench.cli.app import UsageError
from kdbench.records.store import Store
from kdbench.records.students import studies_of
from kdbench.report.page.run_pages import lead_run_pages_to

#: Seconds between two looks at whether the server answers.
LOOK_EVERY = 0.5


def serve_pages(root: Path, study: str, port: int, browser: bool) -> int:
    """Print the page of each study's runs, open the first of them where there is a screen, and
    serve them until Ctrl-C unless a server does already; the exit code. The reports of the root
    link to the port that serves.

    Raises `NoStudyName`, `NoStore`, `UnknownExperiment`, `UsageError` where the port is taken, and
    what MLflow raises.
    """
    if study:
        studies_of(Store(root), study)
    uri = tracking.tracking_uri(root)
    pages = tracking.study_pages(root, study, port)
    if tracking.is_served(uri):
        _announce(pages, browser)
        return 0
    _check_port(port)
    lead_run_pages_to(root, port)
    # Read, as the server would print the address of its store with the password in it.
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    command = tracking.ui_command(root, port)
    with subprocess.Popen(command, text=True, **pipes) as process:
        waiting = (process, port, pages, browser)
        threading.Thread(target=_announce_when_ready, args=waiting, daemon=True).start()
        try:
            for line in process.stdout or ():
                print(line, end="", flush=True)
        except BaseException:  # Ctrl-C included: no server outlives the command
            process.kill()
            raise
    return process.returncode


def _check_port(port: int) -> None:
    """Raise `UsageError` where another program listens at the port: it would be taken for the
    server that is started."""
    if _answers(port):
        raise UsageError(
            f"--port {port}: something is served there already; look at http://127.0.0.1:{port}, "
            "or take another port"
        )


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _announce_when_ready(
    process: "subprocess.Popen[str]", port: int, pages: dict[str, str], browser: bool
) -> None:
    while process.poll() is None:
        if _answers(port):
            _announce(pages, browser)
            return
        time.sleep(LOOK_EVERY)


def _announce(pages: dict[str, str], browser: bool) -> None:
    for study, page in pages.items():
        print(f"{study}  {page}", flush=True)
    if browser and pages and _has_screen():
        webbrowser.open(next(iter(pages.values())))


def _has_screen() -> bool:
    """Whether a browser would open a window; those that draw in the terminal are not meant."""
    if not sys.stdout.isatty():
        return False
    return sys.platform == "darwin" or bool({"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ))
