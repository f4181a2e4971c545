"""Tables of a frozen network's outputs on disk: filled once, by all who are free.

A table has a row for every view of every image: view after view, images in index order.
It is filled in blocks of one size, whoever asks, so that its bits do not depend on who
asked. Blocks are grouped into shards; every process takes shards that nobody else works
on, and what is there when one of them is killed stays. The last one joins the shards.
"""

import io
import math
import mmap
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout

from kdbench.records.files import atomic_open
from kdbench.records.spec import TYPES, digest

#: Images a forward.
BLOCK = 250
#: Shards of a table with fewer views than that; others have one a view.
SHARDS = 8
#: Locks for the shards of one network: no more processes than that can fill its tables.
LOCKS = 16
#: Seconds between two looks at a shard that another process has.
LOOK = 0.2


@dataclass(frozen=True)
class Block:
    """Consecutive images in one view."""

    view: int
    start: int
    stop: int


#: The outputs of a block by name, each as block x its shape, in the table's type.
Compute = Callable[[Block, Sequence[str]], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class OutputCache:
    """The tables of one network in `folder`, under an address made of `key`.

    `shapes`: the shape of each output's row by name; `storage`: `fp32` or `fp16`.
    """

    folder: Path
    key: Mapping[str, Any]
    views: int
    images: int
    shapes: Mapping[str, tuple[int, ...]]
    storage: str

    def path(self, name: str) -> Path:
        """Where an output's table is."""
        return self.folder / f"{self._address(name)}.npy"

    def whole(self, name: str) -> bool:
        """Whether the table is there with the right header and length.

        Its content is not looked at: that would read gigabytes at every start.
        """
        head = self._header(name)
        rows = self.views * self.images
        try:
            with self.path(name).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                return size == len(head) + rows * self._row(name) and file.read(len(head)) == head
        except FileNotFoundError:
            return False

    def open(self, name: str) -> np.ndarray:
        """The table, (views * images) x row, mapped and shared: copy-on-write, since torch
        wants a writable buffer, and the file stays as it is."""
        mapped: np.ndarray = np.load(self.path(name), mmap_mode="c")
        if isinstance(mapped.base, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
            # Rows are read in random order: where memory is short, each page that has to come
            # from disk would bring megabytes of neighbours with it.
            mapped.base.madvise(mmap.MADV_RANDOM)
        return mapped

    def fill(self, names: Sequence[str], compute: Compute, stopping: Callable[[], bool]) -> bool:
        """Have the tables filled, with others' help; False where `stopping` turned true first.

        Raises `DiskFull` where there is no room.
        """
        absent = [name for name in names if not self.whole(name)]
        if not absent:
            return True
        self.folder.mkdir(parents=True, exist_ok=True)
        # First what nobody has, then what others were at: they may have been killed.
        for patient in (False, True):
            for index, blocks in enumerate(self._shards()):
                with self._claim(index, patient, stopping) as mine:
                    if stopping():
                        return False
                    if mine:
                        self._fill_shard(blocks, absent, compute)
        with self._lock("join"):
            for name in absent:
                self._join(name)
        return True

    def _fill_shard(self, blocks: Sequence[Block], names: Sequence[str], compute: Compute) -> None:
        """Write a shard of every table that has neither it nor the whole."""
        # In this order: whoever joins a table removes its shards after it is whole.
        lacking = [n for n in names if not self._has(n, blocks)]
        lacking = [n for n in lacking if not self.whole(n)]
        if not lacking:
            return
        with ExitStack() as written:
            files: dict[str, BinaryIO] = {}
            for name in lacking:
                size = _rows(blocks) * self._row(name)
                files[name] = written.enter_context(atomic_open(self._shard(name, blocks), size))
            for block in blocks:
                found = compute(block, lacking)
                for name in lacking:
                    files[name].write(np.ascontiguousarray(found[name]).data)

    def _join(self, name: str) -> None:
        shards = [self._shard(name, blocks) for blocks in self._shards()]
        if not self.whole(name):
            head = self._header(name)
            size = len(head) + self.views * self.images * self._row(name)
            with atomic_open(self.path(name), size) as file:
                file.write(head)
                for shard in shards:
                    with shard.open("rb") as part:
                        shutil.copyfileobj(part, file, 1 << 24)
        for shard in shards:
            shard.unlink(missing_ok=True)

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
        try:
            size = self._shard(name, blocks).stat().st_size
        except FileNotFoundError:
            return False
        return size == _rows(blocks) * self._row(name)

    def _row(self, name: str) -> int:
        return TYPES[self.storage].itemsize * math.prod(self.shapes[name])

    def _header(self, name: str) -> bytes:
        """The first bytes of the npy file."""
        content = io.BytesIO()
        shape = (self.views * self.images, *self.shapes[name])
        about = {"descr": TYPES[self.storage].str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(content, about)
        return content.getvalue()

    def _lock(self, what: str) -> FileLock:
        return FileLock(self.folder / f"{digest(self.key)}.{what}.lock")

    @contextmanager
    def _claim(self, index: int, patient: bool, stopping: Callable[[], bool]) -> Iterator[bool]:
        """Whether this process has the shard; `patient` waits for whoever has it."""
        lock = self._lock(str(index % LOCKS))
        mine = False
        while not mine:
            try:
                lock.acquire(timeout=LOOK if patient else 0)
                mine = True
            except Timeout:
                if stopping() or not patient:
                    break
        try:
            yield mine
        finally:
            if mine:
                lock.release()


def _rows(blocks: Sequence[Block]) -> int:
    return sum(block.stop - block.start for block in blocks)
