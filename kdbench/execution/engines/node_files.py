"""Files of a study on a machine that cannot see its root: offered by the driver, kept by the node.

An offer names a file below the root by its SHA-256 and by the pieces of its content, which lie in
Ray's object store. A node keeps what it has fetched in a folder of its own, so that a data set or a
teacher reaches it once, whatever the number of its workers.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from kdbench.data.datasets import find_data_set
from kdbench.data.files import data_folder, digest_of
from kdbench.data.packed import DESCRIPTION, FOLDER, is_packed
from kdbench.execution.engines.protocol import Task
from kdbench.models.source_files import KEPT_IN
from kdbench.records.files import atomic_open
from kdbench.records.store import Store

#: Of a record, what training and scoring read.
READ_OF_RECORD = (
    "spec.json",
    "metrics.jsonl",
    "checkpoint.pt",
    "checkpoint.previous.pt",
    "weights.safetensors",
    "result.json",
)
#: Where a node keeps data sets, below its root.
DATA = "data"
#: Bytes of a piece: what an object store takes without spilling much.
PIECE = 1 << 26


@dataclass(frozen=True)
class Offer:
    """A file's size in bytes, its SHA-256, and references to its content in pieces."""

    size: int
    sha256: str
    pieces: tuple[Any, ...]


class FileOffers:
    """What a driver offers of its root and data folder. `put` takes bytes into the object store
    and gives a reference; the content of a finished run is put there once."""

    def __init__(self, store: Store, put: Callable[[bytes], Any]) -> None:
        self.store, self._put = store, put
        self._finished: dict[str, dict[str, Offer]] = {}
        #: Bytes that were put into the object store.
        self.bytes = 0

    def of_task(self, task: Task) -> dict[str, Offer]:
        """The records of a task's runs, and of all runs that these learn from."""
        offers: dict[str, Offer] = {}
        for spec in task.specs:
            offers |= self._of_record(spec.id)
        waiting = [run for spec in task.specs for run in spec.frozen_runs.values()]
        seen: set[str] = set()
        while waiting:
            if (run := waiting.pop()) in seen:
                continue
            seen.add(run)
            if run not in self._finished:
                self._finished[run] = self._of_record(run)
            offers |= self._finished[run]
            learned = self.store.record(run).spec()
            waiting += learned.frozen_runs.values() if learned else ()
        return offers

    def of_study(self, data_name: str, data_dir: Path | None) -> dict[str, Offer]:
        """The files of the data set, and of users' own networks."""
        folder = data_folder(data_dir)
        data_set = find_data_set(data_name, data_dir)
        paths = [file.path for file in (*data_set.train_files, *data_set.test_files)]
        if is_packed(data_name):
            paths.append(f"{FOLDER}/{data_name}/{DESCRIPTION}")
        offers = {f"{DATA}/{path}": self._offer(folder / path) for path in paths}
        networks = sorted((self.store.root / KEPT_IN).glob("*.py"))
        return offers | {f"{KEPT_IN}/{path.name}": self._offer(path) for path in networks}

    def _of_record(self, run: str) -> dict[str, Offer]:
        folder = self.store.record(run).folder
        found = [name for name in READ_OF_RECORD if (folder / name).is_file()]
        return {f"runs/{run}/{name}": self._offer(folder / name) for name in found}

    def _offer(self, path: Path) -> Offer:
        digest, size, pieces = hashlib.sha256(), 0, []
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
                size += len(piece)
                pieces.append(self._put(piece))
        self.bytes += size
        return Offer(size, digest.hexdigest(), tuple(pieces))


def fetch(root: Path, offers: Mapping[str, Offer], get: Callable[[Any], bytes]) -> int:
    """Make the files of `offers` below `root` what they are offered as, and remove what is in the
    way of the same records; the bytes that were fetched. `get` gives the content of a reference."""
    fetched = 0
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".fetch.lock"):  # the node's other workers wait for what this one fetches
        for path in _left_over(root, offers):
            path.unlink()
        for name, offer in offers.items():
            path = root / name
            if path.is_file() and digest_of(path, "SHA256") == offer.sha256:
                continue
            with atomic_open(path, offer.size) as file:
                for piece in offer.pieces:
                    file.write(get(piece))
            fetched += offer.size
    return fetched


def _left_over(root: Path, offers: Iterable[str]) -> Iterator[Path]:
    """Files of the same records that the driver has not, as an older checkpoint."""
    for folder in {(root / name).parent for name in offers if name.startswith("runs/")}:
        for name in READ_OF_RECORD:
            path = folder / name
            if f"runs/{folder.name}/{name}" not in offers and path.is_file():
                yield path
