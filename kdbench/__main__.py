"""The `kdbench` command, which a signal stops from its first line on."""

from kdbench.execution.signals import (
    STOPPED,
    end_despite_threads,
    exit_on_signals,
    ignore_signals,
)


def main() -> None:
    """Run the command line. Ctrl-C and SIGTERM end it with exit code 130 at any moment."""
    exit_on_signals()
    from kdbench.cli import main as run  # after the handlers: importing it takes a moment

    try:
        run()
    except SystemExit as end:
        ignore_signals()
        if end.code == STOPPED:
            end_despite_threads()
        raise
    finally:
        ignore_signals()


if __name__ == "__main__":
    main()
