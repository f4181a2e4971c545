"""A network as a program of `torch.export`, with its normalisation inside."""

import json
import warnings
from pathlib import Path

import torch

from kdbench.errors import one_line
from kdbench.export.description import Description
from kdbench.export.errors import CannotExport
from kdbench.export.network import NormalisedModel, Runner, runner_of

#: The first dimension of the images may be any number.
ANY_BATCH = {"images": {0: torch.export.Dim("batch", min=1)}}


def program_of(model: NormalisedModel, description: Description) -> torch.export.ExportedProgram:
    """The network as a graph with any number of images. Raises `CannotExport` where torch cannot
    make one."""
    images = torch.zeros(2, *description.image_shape)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(model, (images,), dynamic_shapes=ANY_BATCH)
    except Exception as error:  # a network's code can fail to be traced in any way
        raise CannotExport(
            f"torch.export cannot trace the network {description.model}: {one_line(error)}. "
            "--to safetensors needs no trace"
        ) from error


def write(model: NormalisedModel, description: Description, path: Path) -> None:
    """Write the program, with the description's texts as an extra file."""
    texts = {"metadata.json": json.dumps(description.metadata)}
    torch.export.save(program_of(model, description), path, extra_files=texts)


def load(path: Path, description: Description) -> Runner:
    """The program in a file."""
    module = torch.export.load(path).module()
    return runner_of(module)
