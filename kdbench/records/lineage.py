"""Which finished runs learned from which weights.

The result of a run names the SHA-256 of the weights of every run that it learned from. A run
that was damaged and is trained again gives the same weights on the CPU of one machine; on a GPU
or another machine it may give others, and what had learned from the earlier ones is named.
"""

from collections import defaultdict
from collections.abc import Iterable

from kdbench.records.readers import CorruptRecord
from kdbench.records.store import Store

#: Under this key a result names the SHA-256 of the weights that the run learned from, by run.
LEARNED_FROM = "learned_from"


def learners(store: Store, ids: Iterable[str]) -> dict[str, dict[str, str]]:
    """For each run that finished ones of `ids` learned from, those and the checksum of the
    weights they had; records that cannot be read are left out."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for run in ids:
        try:
            result = store.record(run).result or {}
        except CorruptRecord:
            continue
        for source, checksum in result.get(LEARNED_FROM, {}).items():
            found[source][run] = checksum
    return found


def outdated(store: Store, ids: Iterable[str]) -> dict[str, list[str]]:
    """For each run that has other weights now than finished ones of `ids` learned from, those."""
    found = {}
    for source, runs in learners(store, ids).items():
        record = store.record(source)
        try:
            now = record.checksums.get(record.weights_path.name)
        except CorruptRecord:
            continue
        if older := [run for run, checksum in runs.items() if now not in (None, checksum)]:
            found[source] = older
    return found


def outdated_sentence(source: str, runs: Iterable[str]) -> str:
    """What it means that runs learned from other weights than `source` has now."""
    names = list(runs)
    some = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    return (
        f"{len(names)} finished runs learned from earlier weights of run {source}, which was "
        f"trained again and came out differently: {some}. Their scores stand for the weights that "
        "they learned from; to have them trained again too, move their folders out of runs/"
    )
