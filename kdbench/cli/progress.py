"""Progress of a study on a terminal or in a log."""

import time
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from kdbench.records.bounded import printable

#: Seconds between two lines of progress where there is no terminal.
LINE_EVERY = 15.0


def print_line(console: Console, text: str) -> None:
    """Print `text` on one line as it is: no markup in it is read, no path is broken, and a
    control character is written out."""
    console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


class TimeLeftColumn(ProgressColumn):
    """`about 0:03:10 left`, and nothing while there is no estimate."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """The estimate of a task that is not finished."""
        if task.finished or task.time_remaining is None:
            return Text("")
        return Text(f"about {timedelta(seconds=int(task.time_remaining))} left")


class ProgressBar:
    """Progress for a person: a bar with an estimate on a terminal, lines elsewhere.

    `quiet` shows neither; `verbose` prints a line whenever a run ends, on a terminal too.
    """

    def __init__(self, console: Console, quiet: bool = False, verbose: bool = False) -> None:
        self.console = console
        self.quiet = quiet
        self.verbose = verbose
        self._started = time.monotonic()
        self._work_at_start: float | None = None
        self._runs_done = -1
        self._printed = float("-inf")
        columns: tuple[Any, ...] = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TimeLeftColumn(),
        )
        self._bar = Progress(*columns, console=console, disable=quiet or not console.is_terminal)
        self._task = self._bar.add_task("planning", total=None)

    def restarted(self) -> "ProgressBar":
        """A bar like this one, for the next study."""
        return ProgressBar(self.console, self.quiet, self.verbose)

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, runs: int, finished: int, work: float, work_done: float) -> None:
        """Show that `finished` of `runs` runs have ended, with `work_done` of `work` units of
        compute."""
        text = f"{finished} of {runs} runs"
        self._bar.update(self._task, description=text, total=work, completed=work_done)
        if self._work_at_start is None:
            self._work_at_start = work_done
        now = time.monotonic()
        if self.quiet or not self._line_is_due(finished, now):
            return
        self._printed, self._runs_done = now, finished
        gained = work_done - self._work_at_start
        left = (work - work_done) * (now - self._started) / gained if gained else None
        estimate = f", about {left / 60:.1f} min left" if left is not None else ""
        print_line(self.console, f"{text}, {100 * work_done / work:.0f} % of the work{estimate}")

    def _line_is_due(self, runs_done: int, now: float) -> bool:
        if self.verbose and runs_done != self._runs_done:
            return True
        return not self.console.is_terminal and now - self._printed >= LINE_EVERY

    def log(self, text: str) -> None:
        """Print a message of the study's."""
        if not self.quiet:
            print_line(self._bar.console, text)
