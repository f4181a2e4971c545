"""Entries that other packages add to kdbench's tables through entry points."""

from collections.abc import Container
from importlib.metadata import EntryPoint, entry_points


def plugins(group: str, own: Container[str]) -> dict[str, EntryPoint]:
    """The entry points of `group` by name, not yet loaded.

    Loading waits until an entry is used, so a package may import kdbench while it is
    itself being imported, and a broken plug-in disturbs only those who ask for it.

    Raises `ValueError` where a name is in `own` (a container of names) or comes twice,
    since a study file could then mean either.
    """
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=group):
        if entry.name in own or entry.name in found:
            first = found[entry.name].value if entry.name in found else "kdbench itself"
            raise ValueError(
                f"entry-point group {group}: the name {entry.name!r} is taken by {first} and "
                f"by {entry.value}; rename one or uninstall its package"
            )
        found[entry.name] = entry
    return found
