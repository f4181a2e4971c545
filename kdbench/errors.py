"""The base class of every error that is meant for the user, and what goes into messages: any error
in one line, and the first of many names."""

from collections.abc import Sequence

#: Characters of another project's message that are shown.
LONGEST = 300


class KdbenchError(Exception):
    """An error whose message says what is wrong, where, and what to do instead.

    The command line prints it as one line without a traceback.
    """

    def __str__(self) -> str:
        # A KeyError among the bases would print the message quoted, as it prints a key.
        return Exception.__str__(self)


def one_line(error: BaseException) -> str:
    """`TypeError: ...`: the type and the message of an error in one line."""
    message = " ".join(str(error).split())[:LONGEST]
    return f"{type(error).__name__}{': ' if message else ''}{message}"


def first_names(names: Sequence[str], most: int) -> str:
    """`a, b and 3 more`: at most so many names, and the number of the others."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
