"""The base class of every error that is meant for the user."""


class KdbenchError(Exception):
    """An error whose message says what is wrong, where, and what to do instead.

    The command line prints it as one line without a traceback.
    """

    def __str__(self) -> str:
        # A KeyError among the bases would print the message quoted, as it prints a key.
        return Exception.__str__(self)
