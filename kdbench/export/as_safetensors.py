"""Weights as a plain state dict, with the code of their network beside it."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from kdbench.export.description import Description
from kdbench.export.errors import CannotExport
from kdbench.export.model_file import build_from, model_source
from kdbench.export.network import NormalisedModel, Runner, runner_of
from kdbench.models import DeployedModel

CODE = "model.py"


def write(model: NormalisedModel, description: Description, path: Path) -> None:
    """Write the state dict of the student's network, and `model.py`. The normalisation is not in
    it, and stands in `config.json`.

    Raises `CannotExport` where the student answers through a head, which is no part of its network.
    """
    if isinstance(model.network, DeployedModel):
        raise CannotExport(
            f"the student of {description.method} answers through a head of its method, which is "
            "no part of its network's state dict; --to torch and --to onnx hold both"
        )
    source = model_source(description.model, description.image_shape, len(description.classes))
    (path.parent / CODE).write_text(source, encoding="utf-8")
    tensors = {name: value.contiguous() for name, value in model.network.state_dict().items()}
    save_file(tensors, path, {"format": "pt", **description.metadata})


def load(path: Path, description: Description) -> Runner:
    """The network that `model.py` builds, with the weights of the file. Runs that code."""
    code = path.parent / CODE
    network = build_from(code.read_text(encoding="utf-8"), str(code))
    dtype = getattr(torch, description.dtype)
    network.to(dtype).load_state_dict(load_file(path))
    return runner_of(NormalisedModel(network, description.mean, description.std, dtype))
