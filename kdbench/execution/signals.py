"""Ctrl-C and SIGTERM stop a study at any moment of it, with exit code 130.

While runs are trained a signal asks the workers to finish their step (`StopRequest`). Before
that, while there is nothing to put in order, the command line ends at once
(`exit_on_signals`); after it, while MLflow and the report are brought up to date, it unwinds
as Python does (`interrupt_on_signals`). A second signal ends the process at once, everywhere.
"""

import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, NoReturn

from kdbench.execution.errors import Interrupted

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: The exit code of a process that was stopped.
STOPPED = 130
#: Seconds that threads get to end when the process was stopped.
THREADS_TIMEOUT = 2.0

_interrupted = False


class StopRequest:
    """Whether the study has been asked to stop; while it is entered, by SIGINT and SIGTERM too.

    Entering it a second time inside changes nothing. Python runs signal handlers in the main
    thread alone, so in another thread only `request` asks.
    """

    def __init__(self) -> None:
        self.requested = False
        self._actions: list[Callable[[], None]] = []
        self._depth = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        self._depth += 1
        if self._depth == 1 and threading.current_thread() is threading.main_thread():
            for kind in STOP_SIGNALS:
                self._previous[kind] = signal.signal(kind, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._depth -= 1
        if not self._depth:
            for number, handler in self._previous.items():
                signal.signal(number, handler)
            self._previous.clear()
            if kind is None:
                self.check()  # a signal may have come after the last look

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.request()
        elif self._previous[number] is _interrupt:
            _exit(number, frame)
        else:  # in a script or a notebook, which must not be ended
            raise KeyboardInterrupt

    def on_request(self, action: Callable[[], None]) -> None:
        """Call `action` when a stop is requested: in the signal handler, so it must not block."""
        self._actions.append(action)
        if self.requested:
            action()

    def request(self) -> None:
        """Ask the study to stop."""
        self.requested = True
        for action in self._actions:
            action()

    def check(self) -> None:
        """Raise `Interrupted` if a stop has been requested."""
        if self.requested:
            raise Interrupted


def exit_on_signals() -> None:
    """From now on a signal ends the process at once with the command that goes on."""
    _handle(_exit)


@contextmanager
def interrupt_on_signals() -> Iterator[None]:
    """Raise `KeyboardInterrupt` at a signal, and end the process at the next one."""
    previous = {kind: signal.getsignal(kind) for kind in STOP_SIGNALS}
    _handle(_interrupt)
    try:
        yield
    finally:
        for kind, handler in previous.items():
            signal.signal(kind, handler)


def was_interrupted() -> bool:
    """Whether a signal has raised `KeyboardInterrupt`: what it raised may have been swallowed, or
    turned into another error, by code that imports or cleans up."""
    return _interrupted


def ignore_signals() -> None:
    """From now on signals do nothing: the process has an exit code and is ending."""
    _handle(signal.SIG_IGN)


def end_despite_threads() -> None:
    """End a stopped process without Python's own end, which would wait for a thread that waits
    for a tracking server, and aborts where a thread holds the lock of the output."""
    deadline = time.monotonic() + THREADS_TIMEOUT
    others = [t for t in threading.enumerate() if not (t.daemon or t is threading.main_thread())]
    for thread in others:
        thread.join(max(0.0, deadline - time.monotonic()))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(STOPPED)


def _handle(handler: Any) -> None:
    for kind in STOP_SIGNALS:
        # A process that was started with SIGINT ignored (by nohup, or by a script with &) is
        # not meant to be stopped by it.
        if signal.getsignal(kind) is not signal.SIG_IGN:
            signal.signal(kind, handler)


def _exit(_number: int, _frame: FrameType | None) -> NoReturn:
    show_cursor = "\x1b[?25h" if os.isatty(1) else ""  # a progress bar may have hidden it
    command = shlex.join(["kdbench", *sys.argv[1:]])
    os.write(1, f"{show_cursor}Stopped. To continue: {command}\n".encode())
    os._exit(STOPPED)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    global _interrupted
    _interrupted = True
    _handle(_exit)
    raise KeyboardInterrupt
