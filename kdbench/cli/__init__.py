"""The command line. Thin: each command imports what it needs, inside."""

import os

from kdbench.cli import commands, reports
from kdbench.cli.app import Refused, app
from kdbench.cli.parsing import parse_change, parse_labels, parse_seeds

__all__ = ["Refused", "app", "main", "parse_change", "parse_labels", "parse_seeds"]

#: Imported for the commands that they add to `app`, in the order in which help lists them.
COMMANDS = (commands, reports)


def main() -> None:
    """The `kdbench` command."""
    # Settled before any library that reads them is loaded.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    app()
