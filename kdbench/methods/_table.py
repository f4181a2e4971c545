"""The table of methods: kdbench's own, and those of other packages by entry point."""

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint

from kdbench.methods.base import Method
from kdbench.registry import by_name, source


class Table(Mapping[str, type[Method]]):
    """Methods by key; a plug-in is imported when it is first looked up.

    Not before: a plug-in imports kdbench, so loading it while kdbench is being imported
    would meet it half-made whenever it was imported first.

    Raises `ValueError` where two methods claim one key; looking up a plug-in raises
    `ImportError` where it cannot be imported and `TypeError` where it is no method. Each
    names the distribution.
    """

    def __init__(self, own: Mapping[str, type[Method]], entries: Iterable[EntryPoint]) -> None:
        self._loaded = dict(own)
        self._entries = by_name(entries, own)
        self._origins = dict.fromkeys(own, "kdbench")
        self._origins |= {name: source(entry) for name, entry in self._entries.items()}

    def __getitem__(self, key: str) -> type[Method]:
        if key not in self._loaded:
            self._loaded[key] = load(self._entries[key])
        return self._loaded[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._origins)

    def __len__(self) -> int:
        return len(self._origins)

    def __contains__(self, key: object) -> bool:
        # Mapping would look the key up, and so import a plug-in to say that it is there.
        return key in self._origins

    def origin(self, key: str) -> str:
        """`kdbench` for a method of its own, `distribution==version` for a plug-in's."""
        return self._origins[key]


def load(entry: EntryPoint) -> type[Method]:
    """The method class an entry point names."""
    where = f"the method {entry.name} of {source(entry)} ({entry.value})"
    try:
        found = entry.load()
    except Exception as error:
        raise ImportError(f"{where} cannot be imported: {type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise TypeError(f"{where} is no subclass of kdbench.methods.base.Method")
    return found
