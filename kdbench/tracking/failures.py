"""Which errors of MLflow may pass by themselves, and which stay until somebody mends them."""

import errno
import sqlite3
from collections.abc import Iterator

#: Errors of the system that pass: the other side is away, or the disk is full for now.
PASSING = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT, errno.EPIPE),
    *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED),
    *(errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN),
}

#: SQLite's: another process has the file locked, or the disk is full.
PASSING_SQLITE = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL")

#: MLflow raises one type for all answers of a server, and keeps what happened in the text alone.
#: These words stand in it while a server is away, overloaded or starting.
PASSING_WORDS = (
    "timed out",
    "timeout",
    "max retries exceeded",
    "connection refused",
    "connection reset",
    "connection aborted",
    "connection to server",
    "server closed the connection",
    "could not connect",
    "too many connections",
    "too many 5",
    "too many 429",
    "error code 429",
    "error code 500",
    "error code 502",
    "error code 503",
    "error code 504",
    "database is locked",
)

#: No host of that name, or no such scheme: the address is wrong, however the error is wrapped.
WRONG_ADDRESS = ("name or service not known", "nodename nor servname", "no connection adapters")


def may_pass(error: BaseException) -> bool:
    """Whether waiting may mend `error`: a server that is away or slow, a locked database, a full
    disk. A damaged database, a wrong address or a refusal (HTTP 4xx) stays as it is."""
    causes = list(_causes(error))
    if any(word in str(cause).lower() for cause in causes for word in WRONG_ADDRESS):
        return False
    return any(_passes(cause) for cause in causes)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and all that it was raised from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        wrapped = getattr(error, "orig", None)  # SQLAlchemy's name for the driver's error
        if isinstance(wrapped, BaseException):
            yield wrapped
        error = error.__cause__ or error.__context__


def _passes(error: BaseException) -> bool:
    if isinstance(error, sqlite3.Error):
        name = getattr(error, "sqlite_errorname", "")
        return str(name).startswith(PASSING_SQLITE)
    if isinstance(error, (TimeoutError, ConnectionError)):
        return True
    if isinstance(error, OSError) and error.errno in PASSING:
        return True
    return any(word in str(error).lower() for word in PASSING_WORDS)
