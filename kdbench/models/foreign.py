"""Models of other libraries, and of a file of the user's own."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn

from kdbench.errors import KdbenchError, one_line
from kdbench.models.find_layers import NoLayers, find_nodes
from kdbench.models.names import BadModelName, ModelName
from kdbench.models.source_files import source_module
from kdbench.registry import UnknownName, did_you_mean

#: Channels, height and width in pixels.
ImageShape = tuple[int, int, int]


def build_foreign(name: str, image_shape: ImageShape, classes: int) -> nn.Module:
    """The model `name` with fresh weights and its layers in `nodes`.

    Raises `ValueError` where it cannot be built or its layers cannot be found.
    """
    model = _made(ModelName.parse(name), image_shape, classes)
    if isinstance(model, nn.Module) and not hasattr(model, "nodes"):
        model.nodes = dict(_nodes(name, image_shape, classes))  # type: ignore[assignment]
    return model


def check_foreign(name: ModelName) -> None:
    """Raise `UnknownName`, `BadModelName` or `NoSourceFile` where there is no such model."""
    _maker(name)


@cache
def _nodes(name: str, image_shape: ImageShape, classes: int) -> tuple[tuple[str, str], ...]:
    parsed = ModelName.parse(name)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = _made(parsed, image_shape, classes).eval()
    try:
        return tuple(find_nodes(model, image_shape, parsed.layers).items())
    except NoLayers:
        raise
    except Exception as error:  # torch.fx and the network's own code can raise anything
        raise NoLayers(f"its layers cannot be found: {one_line(error)}") from error


def _made(name: ModelName, image_shape: ImageShape, classes: int) -> nn.Module:
    make = _maker(name)
    try:
        return make(image_shape, classes)
    except KdbenchError:
        raise
    except Exception as error:  # as above
        raise ValueError(one_line(error)) from error


def _maker(name: ModelName) -> Callable[[ImageShape, int], nn.Module]:
    options: dict[str, Any] = dict(name.options)
    if name.source == "torchvision":
        from torchvision.models import get_model, list_models

        _known(name, list_models())
        change = _stem(options.pop("stem", None))
        return lambda shape, classes: change(
            get_model(name.entry, weights=None, num_classes=classes, **options)
        )
    if name.source == "timm":
        try:
            import timm
        except ImportError:
            raise BadModelName("timm is not installed: pip install 'kdbench[timm]'") from None
        _known(name, timm.list_models())
        return lambda shape, classes: timm.create_model(
            name.entry, pretrained=False, num_classes=classes, in_chans=shape[0], **options
        )
    if not name.source.endswith(".py"):
        raise BadModelName(
            f"'{name.source}:{name.entry}' is no model: write torchvision:NAME, timm:NAME or "
            "./FILE.py:NAME"
        )
    module = source_module(name.source, name.checksum)
    if not callable(getattr(module, name.entry, None)):
        own = [key for key, value in vars(module).items() if _is_own(module, value)]
        raise UnknownName(f"{name.source} has no {name.entry!r}{did_you_mean(name.entry, own)}")
    return lambda shape, classes: getattr(module, name.entry)(shape, classes, **options)


def _stem(kind: object) -> Callable[[nn.Module], nn.Module]:
    """What is done to a network of torchvision for its option `stem`. Raises `BadModelName`."""
    if kind is None:
        return lambda model: model
    if kind != "small":
        raise BadModelName(f"the option stem should be 'small', not {kind!r}")
    return with_small_stem


def with_small_stem(model: nn.Module) -> nn.Module:
    """A ResNet whose first convolution is 3x3 without a stride, and without pooling after it: the
    stem for images of 32 pixels a side in Chen et al. 2020 (SimCLR), appendix B.9."""
    first = getattr(model, "conv1", None)
    if not isinstance(first, nn.Conv2d) or not isinstance(
        getattr(model, "maxpool", None), nn.Module
    ):
        raise ValueError("the option stem is for ResNets, which have a conv1 and a maxpool")
    model.conv1 = nn.Conv2d(first.in_channels, first.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model


def _known(name: ModelName, names: list[str]) -> None:
    if name.entry not in names:
        raise UnknownName(
            f"{name.source} has no model {name.entry!r}{did_you_mean(name.entry, names)}"
        )


def _is_own(module: Any, value: Any) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module.__name__
