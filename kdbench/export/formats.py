"""The formats of an export, and the ways to make its numbers smaller that each has."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from kdbench.export import as_onnx, as_safetensors, as_torch
from kdbench.export.description import Description
from kdbench.export.errors import CannotExport
from kdbench.export.network import NormalisedModel, Runner
from kdbench.registry import did_you_mean

#: The types of torch in which a network computes, by what `--quantize` calls them.
CASTS = {"fp16": "float16", "bf16": "bfloat16"}
STATIC, DYNAMIC = "int8", "int8-dynamic"


@dataclass(frozen=True)
class Format:
    """A format: the name of its file, whether the normalisation is inside, what `quantize` it
    has, its writer, its loader, and the packages of an extra that it needs."""

    file: str
    normalised: bool
    quantize: tuple[str, ...]
    write: Callable[[NormalisedModel, Description, Path], None]
    load: Callable[[Path, Description], Runner]
    packages: tuple[str, ...] = ()

    def require(self) -> None:
        """Raise `CannotExport` where a package is not installed."""
        for name in self.packages:
            try:
                import_module(name)
            except ImportError:
                raise CannotExport(
                    f'{name} is not installed: pip install "kdbench[onnx]"'
                ) from None


FORMATS = {
    "safetensors": Format(
        "model.safetensors", False, ("fp16", "bf16"), as_safetensors.write, as_safetensors.load
    ),
    "torch": Format("model.pt2", True, ("fp16", "bf16"), as_torch.write, as_torch.load),
    "onnx": Format(
        "model.onnx",
        True,
        (STATIC, DYNAMIC, "fp16"),
        as_onnx.write,
        as_onnx.load,
        as_onnx.PACKAGES,
    ),
}


def find_format(name: str, quantize: str | None) -> Format:
    """The format `name`, which has this `quantize` and whose packages are installed. Raises
    `CannotExport`."""
    if name not in FORMATS:
        raise CannotExport(f"--to {name}: unknown format{did_you_mean(name, FORMATS)}")
    found = FORMATS[name]
    if quantize and quantize not in found.quantize:
        others = [key for key, format in FORMATS.items() if quantize in format.quantize]
        advice = f"; {quantize} is for --to {' or '.join(others)}" if others else ""
        raise CannotExport(
            f"--to {name} has --quantize {', '.join(found.quantize)}, not {quantize}{advice}"
        )
    found.require()
    return found
