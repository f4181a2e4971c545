"""The command line. Thin: each command imports what it needs, inside."""

import os

from kdbench import masking
from kdbench.cli import commands, export_commands, list_commands, plan_command, report_commands
from kdbench.cli.app import app

__all__ = ["app", "main"]

#: Imported for the commands that they add to `app`, in the order in which help lists them.
COMMANDS = (commands, plan_command, report_commands, export_commands, list_commands)


def main() -> None:
    """The `kdbench` command. It prints and logs no secret from here on."""
    masking.install()
    # Set before any library that reads it is loaded.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    app()
