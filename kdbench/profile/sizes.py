"""The size of a network's file in each format that `kdbench export` writes."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as save_tensors
from torch import nn

from kdbench.export import as_onnx
from kdbench.export.description import Description
from kdbench.export.errors import CannotExport
from kdbench.export.formats import FORMATS, STATIC
from kdbench.export.network import NormalisedModel
from kdbench.records.plan_file import PlanData
from kdbench.records.profiles import WEIGHTS
from kdbench.records.spec import RunSpec

#: The formats that hold the whole network, beside the file of its weights.
PROGRAMS = ("torch", "onnx")
#: Of each channel: any, since no size depends on them.
MEAN, STD = (0.5,), (0.25,)
#: Images that the ranges of activations are taken from.
CALIBRATION = 8


def file_sizes(
    network: nn.Module, spec: RunSpec, data: PlanData, log: Callable[[str], None]
) -> dict[str, int]:
    """The bytes of the file of a network by format: its weights alone, and with the normalisation
    inside as programs and with 8-bit numbers. Moves the network to the CPU. A format that it cannot
    be written in, or whose packages are not installed, is left out, and `log` gets the reason."""
    # The overload for a memory format is missing from the stubs.
    network.to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    sizes = {WEIGHTS: len(save_tensors(network.state_dict()))}
    model = NormalisedModel(network, MEAN * data.shape[0], STD * data.shape[0])
    with tempfile.TemporaryDirectory() as folder:
        for name in PROGRAMS:
            format = FORMATS[name]
            path = Path(folder, format.file)
            try:
                format.require()
                format.write(model, _description(spec, name, data), path)
                sizes[name] = path.stat().st_size
                if STATIC in format.quantize:
                    small = path.with_name("small.onnx")
                    images = np.random.default_rng(0).random((CALIBRATION, *data.shape), "float32")
                    as_onnx.quantise(path, small, images)
                    sizes[STATIC] = small.stat().st_size
            except CannotExport as error:
                log(f"no size as {name}: {error}")
    return sizes


def _description(spec: RunSpec, name: str, data: PlanData) -> Description:
    """What a file says of itself, of about the length that an export has."""
    channels, height, width = data.shape
    return Description(
        format=name,
        file=FORMATS[name].file,
        study="",
        method=spec.method,
        row="",
        seed=spec.seed,
        seed_chosen="",
        run=spec.id,
        weights="last",
        model=spec.models["student"],
        classes=data.classes,
        image_shape=(channels, height, width),
        mean=MEAN * channels,
        std=STD * channels,
        normalised=True,
        dtype="float32",
        data=data.name,
        data_checksum=data.checksum,
        training_images=data.images,
        teacher=None,
        spec=json.loads(spec.canonical()),
    )
