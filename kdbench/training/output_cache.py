"""The cached outputs of a frozen network on disk, filled once by all processes that are free.

An output (the logits, or a layer's features) is one file with a row for every view of every
image: view after view, images in index order. It is computed in blocks of one size, whichever
process asks, so that its bits do not depend on the process. Blocks are grouped into shards;
every process takes shards that no other works on, and the shards of one that is killed stay.
The last process joins the shards. Outputs and shards end in a checksum of their own.
"""

import io
import logging
import math
import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from kdbench.records.bounded import inside
from kdbench.records.checksummed import (
    CHECKSUM_SIZE,
    ChecksumWriter,
    CorruptFile,
    is_intact,
    read_chunks,
)
from kdbench.records.files import atomic_open
from kdbench.records.spec import TYPES, digest

#: Images a forward.
BLOCK = 250
#: Shards of an output with fewer views than that; others have one a view.
SHARDS = 8
#: Locks for the shards of one network: no more processes than that can fill its cache.
LOCKS = 16
#: Seconds between two tries to take a shard that another process has.
RETRY = 0.2

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Block:
    """Consecutive images in one view."""

    view: int
    start: int
    stop: int


#: The outputs of a block by name, each as block x its shape, in the cache's type.
Compute = Callable[[Block, Sequence[str]], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class OutputCache:
    """The cached outputs of one network in `folder`, under an address made of `key`.

    `shapes`: the shape of each output's row by name; `storage`: `fp32` or `fp16`.
    """

    folder: Path
    key: Mapping[str, Any]
    views: int
    images: int
    shapes: Mapping[str, tuple[int, ...]]
    storage: str

    def path(self, name: str) -> Path:
        """Where an output is."""
        return self.folder / f"{self._address(name)}.npy"

    def is_complete(self, name: str) -> bool:
        """Whether the output is there with the right header and length. Raises `Refused` where it
        is a link that leads out of the folder."""
        head = self._header(name)
        try:
            with inside(self.path(name), self.folder).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                return size == self._size(name) and file.read(len(head)) == head
        except FileNotFoundError:
            return False

    def remove_damaged(self, names: Sequence[str]) -> None:
        """Remove the outputs that are not what was written, with a warning; `fill` makes them
        again. Reads all of them."""
        for name in names:
            path = self.path(name)
            if not self.is_complete(name) or is_intact(path):
                continue
            with self._lock("join"):
                # Once more: another process may have made it again meanwhile.
                if self.is_complete(name) and not is_intact(path):
                    log.warning("%s; it is made again", CorruptFile(path))
                    path.unlink()

    def open(self, name: str) -> np.ndarray:
        """The output, (views * images) x row, mapped and shared: copy-on-write, since torch
        wants a writable buffer, and the file stays as it is."""
        mapped: np.ndarray = np.load(self.path(name), mmap_mode="c")
        if isinstance(mapped.base, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
            # Rows are read in random order: where memory is short, each page that has to come
            # from disk would bring megabytes of neighbours with it.
            mapped.base.madvise(mmap.MADV_RANDOM)
        return mapped

    def fill(self, names: Sequence[str], compute: Compute, stopping: Callable[[], bool]) -> bool:
        """Compute the outputs that are missing, with the help of other processes; False where
        `stopping` turned true first.

        Raises `DiskFull` where there is no room, `CorruptFile` where a shard was damaged since
        it was written; it is removed.
        """
        absent = [name for name in names if not self.is_complete(name)]
        if not absent:
            return True
        self.folder.mkdir(parents=True, exist_ok=True)
        # First the shards that nobody has, then those of others, which may have been killed.
        for patient in (False, True):
            for index, blocks in enumerate(self._shards()):
                with self._take(index, patient, stopping) as taken:
                    if stopping():
                        return False
                    if taken:
                        self._fill_shard(blocks, absent, compute)
        with self._lock("join"):
            for name in absent:
                self._join(name)
        return True

    def _fill_shard(self, blocks: Sequence[Block], names: Sequence[str], compute: Compute) -> None:
        """Write a shard of every output that has neither it nor the whole."""
        # In this order: whoever joins an output removes its shards after it is complete.
        lacking = [n for n in names if not self._has(n, blocks)]
        lacking = [n for n in lacking if not self.is_complete(n)]
        if not lacking:
            return
        with ExitStack() as written:
            files: dict[str, ChecksumWriter] = {}
            for name in lacking:
                shard, size = self._shard(name, blocks), self._shard_size(name, blocks)
                files[name] = ChecksumWriter(written.enter_context(atomic_open(shard, size)))
            for block in blocks:
                computed = compute(block, lacking)
                for name in lacking:
                    files[name].write(np.ascontiguousarray(computed[name]).data)
            for file in files.values():
                file.finish()

    def _join(self, name: str) -> None:
        shards = [self._shard(name, blocks) for blocks in self._shards()]
        if not self.is_complete(name):
            with atomic_open(self.path(name), self._size(name)) as opened:
                file = ChecksumWriter(opened)
                file.write(self._header(name))
                for shard in shards:
                    self._copy(shard, file)
                file.finish()
        for shard in shards:
            shard.unlink(missing_ok=True)

    def _copy(self, shard: Path, file: ChecksumWriter) -> None:
        try:
            for chunk in read_chunks(shard):
                file.write(chunk)
        except CorruptFile:
            shard.unlink()
            raise

    # -- names, sizes, locks

    def _shards(self) -> list[list[Block]]:
        blocks = [
            Block(view, start, min(start + BLOCK, self.images))
            for view in range(self.views)
            for start in range(0, self.images, BLOCK)
        ]
        size = -(-len(blocks) // max(SHARDS, self.views))
        return [blocks[i : i + size] for i in range(0, len(blocks), size)]

    def _address(self, name: str) -> str:
        return digest({**self.key, "storage": self.storage, "layer": name})

    def _shard(self, name: str, blocks: Sequence[Block]) -> Path:
        first = blocks[0].view * self.images + blocks[0].start
        return self.folder / f"{self._address(name)}.{first}-{first + _rows(blocks)}.shard"

    def _has(self, name: str, blocks: Sequence[Block]) -> bool:
        shard = self._shard(name, blocks)
        try:
            return shard.stat().st_size == self._shard_size(name, blocks) and is_intact(shard)
        except FileNotFoundError:
            return False

    def _size(self, name: str) -> int:
        rows = self.views * self.images * self._row(name)
        return len(self._header(name)) + rows + CHECKSUM_SIZE

    def _shard_size(self, name: str, blocks: Sequence[Block]) -> int:
        return _rows(blocks) * self._row(name) + CHECKSUM_SIZE

    def _row(self, name: str) -> int:
        return TYPES[self.storage].itemsize * math.prod(self.shapes[name])

    def _header(self, name: str) -> bytes:
        """The first bytes of the npy file."""
        content = io.BytesIO()
        shape = (self.views * self.images, *self.shapes[name])
        description = {"descr": TYPES[self.storage].str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(content, description)
        return content.getvalue()

    def _lock(self, what: str) -> FileLock:
        return FileLock(self.folder / f"{digest(self.key)}.{what}.lock")

    @contextmanager
    def _take(self, index: int, patient: bool, stopping: Callable[[], bool]) -> Iterator[bool]:
        """Whether this process has the shard; `patient` waits for whoever has it."""
        lock = self._lock(str(index % LOCKS))
        taken = False
        while not taken:
            try:
                lock.acquire(timeout=RETRY if patient else 0)
                taken = True
            except Timeout:
                if stopping() or not patient:
                    break
        try:
            yield taken
        finally:
            if taken:
                lock.release()


def _rows(blocks: Sequence[Block]) -> int:
    return sum(block.stop - block.start for block in blocks)
