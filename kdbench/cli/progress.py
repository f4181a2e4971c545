"""Progress of a study on a terminal or in a log."""

import time
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

#: Seconds between two plain lines of progress where there is no terminal.
PLAIN_EVERY = 15.0


def plain(console: Console, text: str) -> None:
    """A line as it is: what looks like markup is none, and a command or path stays whole."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


class ProgressBar:
    """Progress for a person: a bar with an estimate on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._started = time.monotonic()
        self._first: float | None = None
        self._printed = 0.0
        columns: Iterable[Any] = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("planning", total=None)

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def plan(self, runs: int, over: int, work: float, worked: float) -> None:
        """Show how far the study is."""
        text = f"{over} of {runs} runs"
        self._bar.update(self._task, description=text, total=work, completed=worked)
        if self._first is None:
            self._first = worked
        now = time.monotonic()
        if self.console.is_terminal or now - self._printed < PLAIN_EVERY:
            return
        self._printed = now
        gained = worked - self._first
        left = (work - worked) * (now - self._started) / gained if gained else None
        estimate = f", about {left / 60:.1f} min left" if left is not None else ""
        plain(self.console, f"{text}, {100 * worked / work:.0f} % of the work{estimate}")

    def say(self, text: str) -> None:
        """A line worth reading."""
        plain(self._bar.console, text)
