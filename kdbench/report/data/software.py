"""The packages that made the numbers of a report: kdbench, plug-ins and the libraries that networks
are from, with their versions."""

from collections.abc import Iterable, Mapping
from typing import Any

from kdbench.records.store import Store

Software = Mapping[str, tuple[str, ...]]
"""The versions by package."""

OURS = "kdbench"


def software_of(store: Store, ids: Iterable[str]) -> Software:
    """The versions of kdbench that trained runs, and the plug-ins and libraries that their
    methods, networks and data sets are from."""
    pairs = []
    for record in map(store.record, ids):
        spec, result = record.spec(), record.result
        if spec is not None and result is not None:
            pairs.append((OURS, (result.get("versions") or {}).get(OURS) or ""))
            package, _, version = spec.origin.partition("==")
            pairs.append((package, version))
            pairs += (result.get("packages") or {}).items()
    return _sorted(pair for pair in pairs if pair[1])


def merged(*parts: Software) -> Software:
    """All packages of several reports with all their versions."""
    return _sorted((name, v) for part in parts for name, versions in part.items() for v in versions)


def _sorted(pairs: Iterable[tuple[str, str]]) -> Software:
    """kdbench first, the others by name."""
    versions: dict[str, set[str]] = {}
    for name, version in pairs:
        versions.setdefault(name, set()).add(version)
    names = sorted(versions, key=lambda name: (name != OURS, name))
    return {name: tuple(sorted(versions[name])) for name in names}


def checked_software(raw: Any) -> Software:
    """The software that a report's file names. Raises `ValueError`."""
    if not isinstance(raw, dict) or not all(
        isinstance(versions, list) and all(isinstance(v, str) for v in versions)
        for versions in raw.values()
    ):
        raise ValueError("its software is no list of versions by package")
    return {name: tuple(versions) for name, versions in raw.items()}


def software_words(software: Software) -> str:
    """The packages in words, as in `kdbench 0.1.0, my-methods 1.2`."""
    return ", ".join(f"{name} {' and '.join(versions)}" for name, versions in software.items())
