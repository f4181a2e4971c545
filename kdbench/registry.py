"""Entries that other packages add to kdbench's tables through entry points."""

from collections.abc import Container, Iterable
from importlib.metadata import EntryPoint, entry_points


def source(entry: EntryPoint) -> str:
    """The distribution an entry point comes from, as `name==version`."""
    return f"{entry.dist.name}=={entry.dist.version}" if entry.dist else "unknown==?"


def plugins(group: str, own: Container[str]) -> dict[str, EntryPoint]:
    """The entry points of `group` by name, not yet loaded.

    Loading waits until an entry is used, so a package may import kdbench while it is
    itself being imported, and a broken plug-in disturbs only those who ask for it.

    Raises `ValueError` where a name is in `own` (a container of names) or comes twice,
    since a study file could then mean either.
    """
    return by_name(entry_points(group=group), own)


def by_name(entries: Iterable[EntryPoint], own: Container[str]) -> dict[str, EntryPoint]:
    """Entries by name, in an order that does not depend on the installation's."""
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entries, key=lambda e: (e.name, e.value, source(e))):
        if entry.name in own or entry.name in found:
            first = _place(found[entry.name]) if entry.name in found else "kdbench itself"
            raise ValueError(
                f"the name {entry.name!r} is taken by {first} and by {_place(entry)}; "
                "rename one or uninstall its package"
            )
        found[entry.name] = entry
    return found


def _place(entry: EntryPoint) -> str:
    return f"{source(entry)} ({entry.value}, entry-point group {entry.group})"
