"""Frozen networks: their outputs, computed once for all who ask.

Where an example has one view, the outputs of a frozen network are a table indexed by
position, computed in one fixed order and kept on disk for every method, seed and trial.
Otherwise one live forward a batch serves the whole cohort. The two agree only to
rounding, so the choice follows from the spec alone (`tabled`).
"""

import hashlib
import io
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from filelock import FileLock
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from kdbench import models
from kdbench.data import VIEWS, TrainingData, Views
from kdbench.durable import replacing
from kdbench.run import RunSpec, digest
from kdbench.store import DamagedRecord, Store
from kdbench.types import Output

#: A tap is tabled up to this many bytes (float32, all training images).
TABLE_LIMIT = 2 << 30
#: Tables are filled in blocks of this many images, in index order, whoever asks.
BLOCK = 250


def tabled(spec: RunSpec, examples: int, taps: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether this run reads a frozen network with these taps from a table."""
    if spec.recipe.frozen != "auto":
        return spec.recipe.frozen == "table"
    small = all(4 * examples * int(np.prod(shape)) <= TABLE_LIMIT for shape in taps.values())
    return VIEWS[spec.data.augment] == 1 and small


def load_student(store: Store, run_id: str, which: str, data: TrainingData) -> nn.Module:
    """The student that run `run_id` made, in eval mode; `which` is `last` or `best`.

    Raises `FileNotFoundError` where the run is unfinished, `DamagedRecord` where its
    weights are not whole.
    """
    record = store.record(run_id)
    spec = record.spec()
    if spec is None or record.result is None:
        raise FileNotFoundError(f"run {run_id} is not finished, so its weights cannot be used")
    with torch.random.fork_rng(devices=[]):
        network = models.build(spec.models["student"], data.shape, data.classes)
    stored = load_tensors(record.weights())
    prefix = f"{which}/"
    try:
        network.load_state_dict(
            {name.removeprefix(prefix): v for name, v in stored.items() if name.startswith(prefix)}
        )
    except RuntimeError as error:
        raise DamagedRecord(record.weights_path, str(error)) from error
    return network.eval().requires_grad_(False)


class FrozenNetwork:
    """The finished student of another run, as a source of outputs over training images."""

    def __init__(
        self, store: Store, run_id: str, which: str, data: TrainingData, views: Views
    ) -> None:
        self.folder = store.tables
        self.data = data
        self.views = views
        model = load_student(store, run_id, which, data)
        # The weights' content too: a teacher trained again on a GPU is another network.
        content = hashlib.sha256(store.record(run_id).weights()).hexdigest()
        self.key = {"run": run_id, "weights": which, "content": content, "data": data.checksum}
        self.model = models.to_device(model, views.device)
        spec = store.record(run_id).spec()
        assert spec is not None, "a run whose weights were loaded has a spec"
        self.shapes = models.taps_of(spec.models["student"], data.shape, data.classes)
        self._tapped: dict[tuple[str, ...], nn.Module] = {}
        self._tables: dict[str, Tensor] = {}

    def live(self, images: Tensor, taps: Sequence[str]) -> Output:
        """One forward in eval mode and without a graph; images as a batch of the cohort."""
        names = tuple(sorted(taps))
        if names not in self._tapped:
            self._tapped[names] = models.tapped(self.model, names).eval()
        with torch.no_grad():
            return self._tapped[names](images)

    def table(self, position: Tensor, taps: Sequence[str]) -> Output:
        """The stored outputs of the training images at `position` (batch)."""
        missing = [name for name in ("logits", *taps) if name not in self._tables]
        if missing:
            self._open(missing)
        rows = {name: self._tables[name][position] for name in ("logits", *taps)}
        return Output(rows.pop("logits"), rows)

    def _path(self, tap: str) -> Path:
        return self.folder / f"{digest({**self.key, 'tap': tap})}.npy"

    def _open(self, names: Sequence[str]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f"{self.key['run']}.lock"):
            absent = [name for name in names if not self._whole(name)]
            if absent:
                self._fill(absent)
        for name in names:
            # Copy-on-write: torch wants a writable buffer, the file stays as it is.
            mapped = torch.from_numpy(np.load(self._path(name), mmap_mode="c"))
            on_cpu = self.views.device.type == "cpu"
            self._tables[name] = mapped if on_cpu else mapped.to(self.views.device)

    def _shape(self, name: str) -> tuple[int, ...]:
        row = (self.data.classes,) if name == "logits" else self.shapes[name]
        return (len(self.data.labels), *row)

    def _whole(self, name: str) -> bool:
        """Whether the file is there with the right header and length.

        Its content is not looked at: that would read gigabytes at every start.
        """
        head = _header(self._shape(name))
        try:
            with self._path(name).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                right = size == len(head) + _bytes(self._shape(name))
                return right and file.read(len(head)) == head
        except FileNotFoundError:
            return False

    def _fill(self, names: Sequence[str]) -> None:
        """Compute and keep the outputs of all training images: whole files or none.

        Written block after block, not through a map: on a full disk a map kills the process.
        """
        taps = [name for name in names if name != "logits"]
        count = len(self.data.labels)
        with ExitStack() as written:
            files: dict[str, BinaryIO] = {}
            for name in names:
                size = _bytes(self._shape(name))
                files[name] = written.enter_context(replacing(self._path(name), size))
                files[name].write(_header(self._shape(name)))
            for start in range(0, count, BLOCK):
                position = torch.arange(start, min(start + BLOCK, count), device=self.views.device)
                out = self.live(self.views.take(position), taps)
                for name in names:
                    value = (out.logits if name == "logits" else out.taps[name]).float().cpu()
                    files[name].write(value.contiguous().numpy().data)


def _header(shape: tuple[int, ...]) -> bytes:
    """The first bytes of an npy file of float32."""
    content = io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(content, about)
    return content.getvalue()


def _bytes(shape: tuple[int, ...]) -> int:
    return 4 * math.prod(shape)
