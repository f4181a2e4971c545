"""Run checks and say in one error which of them failed."""

from collections.abc import Callable, Mapping

from kdbench.data.files import DataError
from kdbench.registry import UnknownName

Checks = Mapping[str, Callable[[], None]]


def require(condition: object, message: str) -> None:
    """Raise `AssertionError` unless the condition holds, also under `python -O`."""
    if not condition:
        raise AssertionError(message)


def run_checks(subject: str, checks: Checks) -> None:
    """Run every check. Raises one `AssertionError` with a line for each that failed."""
    #: The checks that failed with the same message, and the error of the first one.
    names: dict[str, list[str]] = {}
    errors: dict[str, Exception] = {}
    for name, check in checks.items():
        try:
            check()
        except (UnknownName, DataError):
            raise
        # An error in the code under test is a failure too.
        except Exception as error:
            asserted = isinstance(error, AssertionError)
            message = str(error) if asserted else f"{type(error).__name__}: {error}"
            names.setdefault(message, []).append(name)
            errors.setdefault(message, error)
    if errors:
        lines = "".join(f"\n- {', '.join(names[message])}: {message}" for message in names)
        count = sum(map(len, names.values()))
        first = next(iter(errors.values()))
        raise AssertionError(f"{subject} fails {count} of {len(checks)} checks:{lines}") from first
