"""The model zoo: networks by name, each with named taps.

A model is an `nn.Module` from normalised images (batch x channels x height x width) to
logits (batch x classes) with an attribute `nodes` that maps tap names to node names of
`torchvision.models.feature_extraction`: `stage1..n` (feature maps), `stage1_pre..n`
(before the activation), `embedding` (the vector before the classifier) and `logits`.

Other packages join through the entry-point group `kdbench.models`: the entry's name is
the model's, its object a callable `(image_shape, classes) -> nn.Module` of that kind. An
attribute `paper` of the object says where the model comes from.
"""

import difflib
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib.metadata import EntryPoint
from typing import Any

import torch
from torch import Tensor, nn

from kdbench.methods.types import Output
from kdbench.models.digits import DigitsCNN, DigitsCNNSmall
from kdbench.models.mnist import MnistCNN, MnistMLP
from kdbench.models.papers import PAPERS
from kdbench.models.resnet import ResNet
from kdbench.models.tutorial import DeepNN, LightNN
from kdbench.models.wrn import WideResNet
from kdbench.paper import Paper
from kdbench.registry import plugins

__all__ = ["MODELS", "Tapped", "build", "macs", "paper_of", "tapped", "taps_of", "to_device"]

ImageShape = tuple[int, int, int]
Builder = Callable[[ImageShape, int], nn.Module]
Forward = Callable[[nn.Module, Tensor], dict[str, Tensor]]


def _needs(side: int, builder: Callable[..., nn.Module]) -> Builder:
    """`builder`, refusing images whose height or width is below `side` pixels."""

    def checked(image_shape: ImageShape, classes: int) -> nn.Module:
        channels, height, width = image_shape
        if channels < 1 or height < side or width < side:
            raise ValueError(f"needs channels x height x width of at least 1x{side}x{side}")
        return builder(image_shape, classes)

    return checked


def _from_plugin(entry: EntryPoint) -> Builder:
    return lambda image_shape, classes: entry.load()(image_shape, classes)


_X4 = (32, 64, 128, 256)

#: Builders `(image_shape, classes) -> nn.Module` by name.
MODELS: dict[str, Builder] = {
    "deepnn": _needs(4, DeepNN),
    "lightnn": _needs(4, LightNN),
    "mnist-cnn": _needs(4, MnistCNN),
    "mnist-mlp": _needs(1, MnistMLP),
    "digits-cnn": _needs(4, DigitsCNN),
    "digits-cnn-medium": _needs(4, partial(DigitsCNN, depth=2)),
    "digits-cnn-small": _needs(4, DigitsCNNSmall),
    # From 4x4 on the last of three stages still has a position to itself.
    **{
        f"resnet{depth}": _needs(4, partial(ResNet, depth=depth))
        for depth in (8, 14, 20, 32, 44, 56, 110)
    },
    **{
        f"resnet{depth}x4": _needs(4, partial(ResNet, depth=depth, channels=_X4))
        for depth in (8, 32)
    },
    **{
        f"wrn-{depth}-{width}": _needs(4, partial(WideResNet, depth=depth, width=width))
        for depth, width in ((16, 1), (16, 2), (40, 1), (40, 2))
    },
}
_THEIRS = plugins("kdbench.models", MODELS)
MODELS.update({name: _from_plugin(entry) for name, entry in _THEIRS.items()})


def paper_of(name: str) -> Paper | None:
    """Where the model `name` comes from, or None where it has no paper."""
    if name in _THEIRS:
        return getattr(_THEIRS[name].load(), "paper", None)
    return PAPERS.get(name)


def build(name: str, image_shape: ImageShape, classes: int) -> nn.Module:
    """The model `name` with fresh weights from torch's global generator.

    `image_shape` is channels x height x width in pixels. Raises `ValueError` for an
    unknown name, fewer than 2 classes, and images the model cannot take.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(MODELS))}"
        raise ValueError(f"unknown model {name!r}; {hint}")
    if classes < 2:
        raise ValueError(f"model {name} needs at least 2 classes; given {classes}")
    shape = _triple(image_shape)
    try:
        model = MODELS[name](shape, classes)
    except ValueError as error:
        given = "x".join(map(str, shape))
        raise ValueError(f"model {name} cannot take images of {given}: {error}") from error
    if "logits" not in getattr(model, "nodes", {}):
        raise ValueError(f"model {name} has no attribute `nodes` that names at least `logits`")
    model.built_as = (name, shape, classes)  # type: ignore[assignment]
    return model


class Tapped(nn.Module):
    """A model that answers `kdbench.methods.types.Output`: its logits and the taps asked for.

    It holds the very layers of the model it was made of, under the same names: parameters,
    buffers, `state_dict()` and `train()`/`eval()` are the model's own, so weights saved
    here load into `build(...)` and back, and training either trains both. A deep copy is
    independent. `taps` are the names asked for, `built_as` the arguments of `build`.
    """

    def __init__(
        self,
        model: nn.Module,
        taps: tuple[str, ...],
        forwards: dict[bool, Forward],
    ):
        super().__init__()
        for name, parameter in model.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in model.named_buffers(recurse=False):
            kept = name not in model._non_persistent_buffers_set
            self.register_buffer(name, buffer, persistent=kept)
        for name, child in model.named_children():
            self.add_module(name, child)
        self.nodes: dict[str, str] = model.nodes  # type: ignore[assignment]
        self.built_as: tuple[str, ImageShape, int] = model.built_as  # type: ignore[assignment]
        self.taps = taps
        self._forwards = forwards
        self.training = model.training

    def __getstate__(self) -> dict[str, Any]:
        # Generated functions cannot be pickled; they are made again from the name.
        return {key: value for key, value in self.__dict__.items() if key != "_forwards"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forwards = _forwards(*self.built_as, frozenset(self.taps))

    def forward(self, images: Tensor) -> Output:
        found = self._forwards[self.training](self, images)
        taps = {tap: found[self.nodes[tap]] for tap in self.taps}
        return Output(found[self.nodes["logits"]], taps)


def tapped(model: nn.Module, taps: Sequence[str] = ()) -> Tapped:
    """`model`, made by `build`, so that it also answers the feature maps named in `taps`.

    Shares the model's parameters and buffers. The logits do not depend on `taps`. The
    graph is traced once per model name, image shape and taps, then reused. Raises
    `ValueError` for a tap that the model lacks.
    """
    if not hasattr(model, "built_as"):
        raise ValueError(f"{type(model).__name__} does not come from kdbench.models.build")
    name, image_shape, classes = model.built_as  # type: ignore[misc]
    _check_taps(name, model.nodes, taps)  # type: ignore[arg-type]
    names = tuple(dict.fromkeys(taps))
    return Tapped(model, names, _forwards(name, image_shape, classes, frozenset(names)))


def taps_of(name: str, image_shape: ImageShape, classes: int) -> dict[str, tuple[int, ...]]:
    """The shape of each tap of the model `name`, without the batch dimension, `logits` left
    out: channels x height x width for feature maps, (width,) for vectors.

    Costs no weights and no random number: the model is laid out without storage. Raises
    `ValueError` as `build` does.
    """
    return dict(_shapes(name, _triple(image_shape), classes))


def macs(name: str, image_shape: ImageShape, classes: int) -> int:
    """Multiply-accumulates of one image's forward: convolutions and matrix products, no bias,
    normalisation, activation or pooling. Raises `ValueError` as `build` does."""
    return _macs(name, _triple(image_shape), classes)


def to_device(model: nn.Module, device: torch.device | str) -> nn.Module:
    """`model` on `device` in channels_last order, in which small convolutions run faster."""
    # The overload for a memory format is missing from the stubs.
    return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _triple(image_shape: Sequence[int]) -> ImageShape:
    channels, height, width = image_shape
    return int(channels), int(height), int(width)


def _check_taps(name: str, nodes: dict[str, str], taps: Sequence[str]) -> None:
    known = sorted(set(nodes) - {"logits"})
    for tap in taps:
        if tap not in known:
            raise ValueError(f"model {name} has no tap {tap!r}; it has {', '.join(known)}")


def _skeleton(name: str, image_shape: ImageShape, classes: int) -> nn.Module:
    """The model without storage; the caller's random numbers stay where they are."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return build(name, image_shape, classes).eval()


@cache
def _forwards(
    name: str, image_shape: ImageShape, classes: int, taps: frozenset[str]
) -> dict[bool, Forward]:
    """Functions `(model, images) -> tensors by node name`, for training (True) and not.

    Tracing takes from milliseconds (tutorial pair) to a second (resnet110), so it is done
    on a skeleton and its generated code is kept: it reads the layers from the module it is
    given, hence serves every instance of the same layout.
    """
    from torchvision.models.feature_extraction import create_feature_extractor

    skeleton = _skeleton(name, image_shape, classes)
    nodes: dict[str, str] = skeleton.nodes  # type: ignore[assignment]
    wanted = sorted({nodes[tap] for tap in taps} | {nodes["logits"]})
    extractor = create_feature_extractor(skeleton, {node: node for node in wanted})
    # The extractor's class gets a new `forward` each time its mode changes.
    return {mode: type(extractor.train(mode)).forward for mode in (True, False)}


@cache
def _shapes(
    name: str, image_shape: ImageShape, classes: int
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    skeleton = _skeleton(name, image_shape, classes)
    nodes: dict[str, str] = skeleton.nodes  # type: ignore[assignment]
    taps = sorted(set(nodes) - {"logits"})
    with torch.no_grad():
        output = tapped(skeleton, taps)(torch.zeros(1, *image_shape, device="meta"))
    return tuple((tap, tuple(output.taps[tap].shape[1:])) for tap in taps)


@cache
def _macs(name: str, image_shape: ImageShape, classes: int) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    skeleton = _skeleton(name, image_shape, classes)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        skeleton(torch.zeros(1, *image_shape, device="meta"))
    # It counts a multiplication and an addition as two.
    return counter.get_total_flops() // 2
