"""A network as ONNX, with its normalisation inside, and its numbers as 8-bit integers."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdbench.errors import one_line
from kdbench.export.as_torch import ANY_BATCH, program_of
from kdbench.export.description import Description
from kdbench.export.errors import CannotExport
from kdbench.export.network import BATCH, NormalisedModel, Runner

INPUT, OUTPUT = "images", "logits"
#: What writes, quantises and runs the file.
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def write(model: NormalisedModel, description: Description, path: Path) -> None:
    """Write the network in one file. Raises `CannotExport` where ONNX lacks an operator."""
    program = program_of(model, description)
    try:
        with _quietly():
            translated = torch.onnx.export(
                program,
                dynamo=True,
                dynamic_shapes=ANY_BATCH,  # for the dimension's name
                input_names=[INPUT],
                output_names=[OUTPUT],
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # OnnxExporterError, and what onnxscript raises
        raise CannotExport(
            f"the network {description.model} cannot be written as ONNX: {_cause(error)}. "
            "--to torch keeps every operator"
        ) from error
    assert translated is not None, "without a file it returns the program"
    translated.save(path, external_data=False)
    describe(path, description)


def _cause(error: BaseException) -> str:
    """The innermost reason: what lies around it says how to report a fault of torch."""
    while error.__cause__ is not None:
        error = error.__cause__
    return one_line(error)


def describe(path: Path, description: Description) -> None:
    """Write the description's texts into a file."""
    import onnx

    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, description.metadata)
    onnx.save(model, path)


def load(path: Path, description: Description) -> Runner:
    """The file in a session of onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> np.ndarray:
        (logits,) = session.run([OUTPUT], {INPUT: images})
        return np.asarray(logits)

    return run


def quantise(path: Path, target: Path, images: np.ndarray | None) -> None:
    """Write the network of a file with 8-bit weights, per channel: static, with activations whose
    ranges are those that training `images` (N x channels x height x width, in 0..1) show, or
    without them dynamic, where ranges are taken from each batch."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self, images: np.ndarray) -> None:
            self.batches: Iterator[Any] = iter(np.split(images, range(BATCH, len(images), BATCH)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch}

    prepared = path.with_suffix(".prepared.onnx")
    try:
        with _quietly():
            quant_pre_process(path, prepared)
            if images is None:
                quantize_dynamic(prepared, target, per_channel=True)
            else:
                quantize_static(prepared, target, Reader(images), per_channel=True)
    finally:
        prepared.unlink(missing_ok=True)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the warnings of torch and onnxruntime, which speak to their own developers."""
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
