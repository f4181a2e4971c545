"""The registry of models, and `build`.

A model is an `nn.Module` from normalised images (batch x channels x height x width) to
logits (batch x classes) with an attribute `nodes`; see `kdbench.models`.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from kdbench.errors import KdbenchError
from kdbench.models import mobilenet, resnet, shufflenet, tutorial, vgg, wrn
from kdbench.models.digits import DigitsCNN, DigitsCNNSmall
from kdbench.models.find_layers import NoLayers
from kdbench.models.foreign import ImageShape, build_foreign
from kdbench.models.inputs import with_input_layer
from kdbench.models.mnist import MnistCNN, MnistMLP
from kdbench.models.mobilenet import MobileNetV2
from kdbench.models.names import is_foreign, without_input
from kdbench.models.resnet import ResNet
from kdbench.models.resnet50 import ResNet50
from kdbench.models.shufflenet import ShuffleNetV1, ShuffleNetV2
from kdbench.models.tutorial import DeepNN, LightNN
from kdbench.models.vgg import VGG
from kdbench.models.wrn import WideResNet
from kdbench.registry import Paper, Registry

#: A function from the shape of an image and the number of classes to a model.
Builder = Callable[[ImageShape, int], nn.Module]


class BrokenModel(KdbenchError, ValueError):
    """A model that cannot be used for these images and classes; the message says why."""


#: The channels of the x4 residual networks.
_X4 = (32, 64, 128, 256)


def _model(side: int, builder: Callable[..., nn.Module], paper: Paper | None = None) -> Builder:
    """Declare a model: its builder, the smallest height and width of an image in pixels, and its
    paper. Raises `ValueError` for smaller images when it is built."""

    def checked(image_shape: ImageShape, classes: int) -> nn.Module:
        channels, height, width = image_shape
        if channels < 1 or height < side or width < side:
            raise ValueError(f"needs channels x height x width of at least 1x{side}x{side}")
        return builder(image_shape, classes)

    checked.paper = paper  # type: ignore[attr-defined]
    checked.builder = builder  # type: ignore[attr-defined]
    return checked


def _check(builder: object) -> str | None:
    """Why an object is no model builder, or None if it is one."""
    if not callable(builder):
        return "is not callable: (image_shape, classes) -> nn.Module"
    if not isinstance(getattr(builder, "paper", None), Paper | None):
        return "has an attribute `paper` that is no kdbench.models.Paper"
    return None


#: All models by name, with those of the entry-point group `kdbench.models`.
MODELS: Registry[Builder] = Registry(
    "model",
    "kdbench.models",
    {
        "deepnn": _model(4, DeepNN, tutorial.PAPER),
        "lightnn": _model(4, LightNN, tutorial.PAPER),
        "mnist-cnn": _model(4, MnistCNN),
        "mnist-mlp": _model(1, MnistMLP),
        "digits-cnn": _model(4, DigitsCNN),
        "digits-cnn-medium": _model(4, partial(DigitsCNN, depth=2)),
        "digits-cnn-small": _model(4, DigitsCNNSmall),
        # On 4x4 images the last of three stages still has one position.
        **{
            f"resnet{depth}": _model(4, partial(ResNet, depth=depth), resnet.PAPER)
            for depth in (8, 14, 20, 32, 44, 56, 110)
        },
        **{
            f"resnet{depth}x4": _model(
                4, partial(ResNet, depth=depth, channels=_X4), resnet.X4_PAPER
            )
            for depth in (8, 32)
        },
        **{
            f"wrn-{depth}-{width}": _model(
                4, partial(WideResNet, depth=depth, width=width), wrn.PAPER
            )
            for depth, width in ((16, 1), (16, 2), (40, 1), (40, 2))
        },
        "resnet50": _model(8, ResNet50, resnet.PAPER),
        "vgg8": _model(8, partial(VGG, convolutions=1), vgg.PAPER),
        "vgg13": _model(8, partial(VGG, convolutions=2), vgg.PAPER),
        "mobilenetv2": _model(16, MobileNetV2, mobilenet.PAPER),
        "shufflenetv1": _model(8, ShuffleNetV1, shufflenet.PAPER),
        "shufflenetv2": _model(8, ShuffleNetV2, shufflenet.V2_PAPER),
    },
    _check,
)


def paper_of(name: str) -> Paper | None:
    """The paper of the model `name`, or None if it has none."""
    base, _ = without_input(name)
    return None if is_foreign(base) else getattr(MODELS[base], "paper", None)


def build(name: str, image_shape: ImageShape, classes: int) -> nn.Module:
    """The model `name` with fresh weights from torch's global generator.

    `image_shape` is channels x height x width in pixels. Raises `UnknownName`, and `BrokenModel`
    (a `ValueError`) for fewer than 2 classes and for images that the model cannot take.
    """
    base, given = without_input(name)
    builder = partial(build_foreign, base) if is_foreign(base) else MODELS[base]
    if classes < 2:
        raise BrokenModel(f"model {name} needs at least 2 classes; given {classes}")
    shape = seen = _triple(image_shape)
    if given and given.size:
        seen = (shape[0], given.size, given.size)
    try:
        model = builder(seen, classes)
    except NoLayers as error:
        raise BrokenModel(f"model {name}: {error}") from error
    except KdbenchError:
        raise
    except ValueError as error:
        size = "x".join(map(str, seen))
        raise BrokenModel(f"model {name} cannot take images of {size}: {error}") from error
    if not isinstance(model, nn.Module):
        raise BrokenModel(f"model {name} is built as a {type(model).__name__}, not an nn.Module")
    if "logits" not in getattr(model, "nodes", {}):
        raise BrokenModel(f"model {name} has no attribute `nodes` that names at least `logits`")
    if given:
        model = with_input_layer(model, given)
    model.built_as = (name, shape, classes)  # type: ignore[assignment]
    return model


def skeleton(name: str, image_shape: ImageShape, classes: int) -> nn.Module:
    """The model without storage; the caller's random generator does not advance."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return build(name, image_shape, classes).eval()


def _triple(image_shape: Sequence[int]) -> ImageShape:
    channels, height, width = image_shape
    return int(channels), int(height), int(width)
