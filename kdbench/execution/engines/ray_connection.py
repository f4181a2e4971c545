"""Connecting to a Ray cluster, or starting one on this machine."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kdbench.errors import one_line
from kdbench.execution.errors import InvalidOption
from kdbench.execution.signals import STOP_SIGNALS

#: Seconds that the head of a cluster has to take a connection.
CONNECT_TIMEOUT = 10.0


def connect(ray: Any, address: str | None) -> None:
    """Connect to the cluster at `address`, else to the one that is running, else start one here.
    Raises `InvalidOption` where there is none."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        _require_listener(address or "auto")
        with own_signals():
            ray.init(
                address=address,
                include_dashboard=False,  # of a cluster that is started here: it takes a core
                log_to_driver=False,
                logging_level="ERROR",
            )
    except Exception as error:  # Ray's are of many kinds
        raise InvalidOption(
            f"--engine ray: cannot connect to {address or 'a Ray cluster'}: {one_line(error)}. "
            "Start one with `ray start --head`, or leave --address out to have one started here."
        ) from error


def _require_listener(address: str) -> None:
    """Raise `OSError` or `ValueError` where nobody listens at `HOST:PORT` or `ray://HOST:PORT`: Ray
    would try for many minutes."""
    if address not in ("auto", "local"):
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError("write auto, HOST:PORT or ray://HOST:PORT")
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT).close()


@contextmanager
def own_signals() -> Iterator[None]:
    """Keep this process's handlers of Ctrl-C and SIGTERM, which Ray replaces."""
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            with suppress(ValueError):  # not in the main thread, where Ray replaces none either
                signal.signal(number, handler)
