"""Methods of other packages, found by the entry-point group `kdbench.methods`."""

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint

from kdbench.methods.base import Method

GROUP = "kdbench.methods"


def gather(
    builtin: Mapping[str, type[Method]], entries: Iterable[EntryPoint]
) -> tuple[dict[str, type[Method]], dict[str, str]]:
    """The table of methods, and for each key where it comes from.

    An origin is `kdbench` for a built-in method and `distribution==version` for a
    plug-in. Raises `ValueError` where two methods claim a key, `ImportError` where a
    plug-in cannot be imported, `TypeError` where it is no method; each names the
    distribution.
    """
    table, origins = dict(builtin), dict.fromkeys(builtin, "kdbench")
    for entry in sorted(entries, key=lambda e: (e.name, e.value)):
        source = f"{entry.dist.name}=={entry.dist.version}" if entry.dist else "unknown==?"
        if entry.name in table:
            raise ValueError(
                f"two methods are called {entry.name}: one of {origins[entry.name]}, "
                f"one of {source} ({entry.value}); rename or uninstall one"
            )
        try:
            found = entry.load()
        except Exception as error:
            raise ImportError(
                f"the method {entry.name} of {source} cannot be imported ({entry.value}): "
                f"{type(error).__name__}: {error}"
            ) from error
        if not (isinstance(found, type) and issubclass(found, Method)):
            raise TypeError(
                f"the method {entry.name} of {source} is no subclass of "
                f"kdbench.methods.base.Method ({entry.value})"
            )
        table[entry.name], origins[entry.name] = found, source
    return table, origins
