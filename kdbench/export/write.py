"""An export from its beginning to its end: chosen, written, proved, quantised, described.

All of it happens in a folder beside its place, which is renamed at the end: what is at the place
is whole and proved, or nothing is there.
"""

import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from kdbench import data
from kdbench.data import TrainingData
from kdbench.data.files import DataError
from kdbench.errors import KdbenchError, one_line
from kdbench.export import as_onnx
from kdbench.export.card import write_card
from kdbench.export.choice import BEST, Choice, choose, scored_seeds
from kdbench.export.description import Description
from kdbench.export.errors import CannotExport
from kdbench.export.formats import CASTS, DYNAMIC, STATIC, Format, find_format
from kdbench.export.network import NormalisedModel, run_all
from kdbench.export.proof import prove, require_same_test
from kdbench.export.quantisation import calibration_images, judge_quantised
from kdbench.records.provenance import versions
from kdbench.records.store import Record, Store
from kdbench.training.evaluate import TestData, open_test_set_of
from kdbench.training.teachers import load_student

Log = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What is to be exported: a method's row and seed (a number or `best`) of a study under
    `root`, in a format and perhaps quantised, into the folder `out`."""

    study: str
    method: str
    format: str
    out: Path
    root: Path
    seed: str = BEST
    row: str | None = None
    quantize: str | None = None
    data_dir: Path | None = None


def export_student(request: Request, log: Log = lambda line: None) -> Description:
    """Write the export into its folder; what it says of itself.

    Raises `CannotExport` where that cannot be done or the exported network does not answer as
    its run did, `UnknownName` for a study, method, row or seed that is not there, and
    `DataError` for images that are missing or damaged. The folder is not touched then.
    """
    format = find_format(request.format, request.quantize)
    require_free(request.out)
    store = Store(request.root)
    choice = choose(store, request.study, request.method, request.seed, request.row)
    images = data.load(choice.data.name, request.data_dir)
    if images.checksum != choice.spec.data.checksum:
        raise DataError(
            f"data set {images.name}: its training images have the checksum {images.checksum}, and "
            f"run {choice.record.id} was trained on {choice.spec.data.checksum}"
        )
    test = open_test_set_of(images, request.data_dir)
    require_same_test(test, choice.record)
    with folder_beside(request.out) as part:
        work = _Work(store, choice, format, request, images, test, part, log)
        description = work.export()
        description.dump(part)
        write_card(part, description, choice, scored_seeds(store, choice.row), store)
        part.rename(request.out)
    return description


def require_free(out: Path) -> None:
    """Raise `CannotExport` unless nothing, or an empty folder, is at `out`."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise CannotExport(f"--out {out} is no folder; name one that is new or empty")
    if out.is_dir() and any(out.iterdir()):
        raise CannotExport(f"--out {out} is not empty; name a folder that is new or empty")


@contextmanager
def folder_beside(out: Path) -> Iterator[Path]:
    """A new folder beside `out`, which is gone afterwards unless it was renamed; so are the parents
    of `out` that were made for it, while they are empty."""
    made = [parent for parent in out.parents if not parent.exists()]
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.{secrets.token_hex(4)}.part")
    part.mkdir()
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)
        with suppress(OSError):  # they hold the export
            for parent in made:
                parent.rmdir()


@dataclass(frozen=True)
class _Work:
    """One export with all that it reads, in the folder `part`."""

    store: Store
    choice: Choice
    format: Format
    request: Request
    images: TrainingData
    test: TestData
    part: Path
    log: Log

    def export(self) -> Description:
        """Write the float network and prove it, then the quantised one and judge it."""
        path = self.part / self.format.file
        description = self._description()
        self._write(self.choice.record, description, path)
        name = f"{self.request.format} of {self.request.method} seed {self.choice.seed}"
        proof = prove(self._logits(path, description), self.choice, name)
        self.log(
            f"proved       {proof.images} test images: logits within "
            f"{proof.largest_difference:.1g} of the record's ({proof.tolerance:.1g} allowed), "
            f"{proof.ties} other classes"
        )
        description = replace(description, proof=proof)
        return self._quantised(description, path) if self.request.quantize else description

    def _write(self, record: Record, description: Description, path: Path) -> None:
        network = load_student(self.store, record.id, self.choice.which, self.images)
        dtype = getattr(torch, description.dtype)
        model = NormalisedModel(network, self.images.mean, self.images.std, dtype)
        self.format.write(model, description, path)

    def _logits(self, path: Path, description: Description) -> np.ndarray:
        """What the file gives for the test images in its own runtime."""
        try:
            runner = self.format.load(path, description)
            return run_all(runner, self.test.images, self.test.scale)
        except KdbenchError:
            raise
        except Exception as error:  # a runtime can raise anything
            raise CannotExport(
                f"the file written as {self.request.format} cannot be run: {one_line(error)}"
            ) from error

    def _quantised(self, description: Description, path: Path) -> Description:
        """Replace the float network by the quantised one, and judge all seeds of the row."""
        kind = self.request.quantize
        assert kind is not None, "asked for"
        small = replace(description, dtype=CASTS.get(kind, "float32"))
        sample = calibration_images(self.images) if kind == STATIC else None
        seeds = scored_seeds(self.store, self.choice.row)
        logits, recorded = {}, {}
        for seed, record in seeds.items():
            require_same_test(self.test, record)
            with folder_beside(self.part / str(seed)) as folder:
                target = folder / path.name
                self._shrink(record, small, target, kind, sample)
                logits[seed] = self._logits(target, small)
                if seed == self.choice.seed:
                    shutil.move(target, path)
            recorded[seed] = record.predictions()[self.choice.which]
            self.log(f"quantised    seed {seed}: {len(logits)} of {len(seeds)} seeds")
        labels = self.test.labels.numpy()
        calibrated_on = 0 if sample is None else len(sample)
        judged = judge_quantised(self.choice, kind, labels, logits, recorded, calibrated_on)
        return replace(small, quantisation=judged)

    def _shrink(
        self, record: Record, small: Description, target: Path, kind: str, sample: np.ndarray | None
    ) -> None:
        if kind not in (STATIC, DYNAMIC):
            self._write(record, small, target)
            return
        whole = target.with_name("float.onnx")
        self._write(record, small, whole)
        as_onnx.quantise(whole, target, sample)
        as_onnx.describe(target, small)

    def _description(self) -> Description:
        choice, images = self.choice, self.images
        return Description(
            format=self.request.format,
            file=self.format.file,
            study=choice.plan.study,
            method=choice.row.label,
            row=choice.row.row,
            seed=choice.seed,
            seed_chosen=choice.how,
            run=choice.record.id,
            weights=choice.which,
            model=choice.spec.models["student"],
            classes=images.class_names,
            image_shape=images.shape,
            mean=images.mean,
            std=images.std,
            normalised=self.format.normalised,
            dtype="float32",
            data=images.name,
            data_checksum=images.checksum,
            training_images=len(images.labels),
            teacher=choice.teacher,
            spec=json.loads(choice.spec.canonical()),
            versions={**versions(), **{name: version(name) for name in self.format.packages}},
        )
