"""Models that also return intermediate features."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from kdbench.errors import KdbenchError, one_line
from kdbench.models.output import Output
from kdbench.models.parameters import own_parameters
from kdbench.models.zoo import BrokenModel, ImageShape, _triple, skeleton

Forward = Callable[[nn.Module, Tensor], dict[str, Tensor]]


class FeatureModel(nn.Module):
    """A model that returns `kdbench.models.Output`: its logits and the features asked for.

    It shares the submodules, parameters and buffers of the model that it is made from, under
    the same names. So weights saved from one load into the other, and training one trains
    both; a deep copy is independent. `layer_names` are the layers asked for, `built_as` the
    arguments of `build`. Without a `classifier` it gives no logits: `features_alone` asks it.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: tuple[str, ...],
        classifier: bool,
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
        self.norms: dict[str, str] = getattr(model, "norms", {})
        self.layer_names = layers
        self.classifier_asked = classifier
        self._trace()
        self.training = model.training

    def __getstate__(self) -> dict[str, Any]:
        # Generated functions cannot be pickled; they are generated again from the name.
        return {key: value for key, value in self.__dict__.items() if key != "_forwards"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._trace()

    def _trace(self) -> None:
        asked = {*self.layer_names, *(["logits"] if self.classifier_asked else [])}
        self._forwards = _forwards(*self.built_as, frozenset(asked))

    def forward(self, images: Tensor) -> Output:
        tensors = self._forwards[self.training](self, images)
        return Output(tensors[self.nodes["logits"]], _by_layer(self, tensors), own_parameters(self))


def features_alone(model: FeatureModel, images: Tensor) -> dict[str, Tensor]:
    """The features of a model by layer. No method of it: a model may have a part of that name."""
    return _by_layer(model, model._forwards[model.training](model, images))


def _by_layer(model: FeatureModel, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {layer: tensors[model.nodes[layer]] for layer in model.layer_names}


def with_features(
    model: nn.Module, layers: Sequence[str] = (), classifier: bool = True
) -> FeatureModel:
    """A `model` made by `build`, so that it also returns the features of `layers`.

    Shares the model's parameters and buffers. The logits do not depend on `layers`; without the
    model's own `classifier` none are computed, see `features_alone`. The graph is traced once
    for each model name, image shape and set of layers, then reused.
    Raises `ValueError` for a layer that the model lacks.
    """
    if not hasattr(model, "built_as"):
        raise ValueError(f"{type(model).__name__} does not come from kdbench.models.build")
    _check_layers(model.built_as[0], model.nodes, layers)  # type: ignore[index,arg-type]
    return FeatureModel(model, tuple(dict.fromkeys(layers)), classifier)


def feature_shapes(name: str, image_shape: ImageShape, classes: int) -> dict[str, tuple[int, ...]]:
    """The shape of each layer of the model `name`, without the batch dimension, `logits` left
    out: channels x height x width for feature maps, (width,) for vectors.

    Allocates no weights and draws no random numbers: the model is built on the meta device.
    Raises `BrokenModel` as `build` does, and where the model fails on two such images or
    returns anything but their logits.
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


def _check_layers(name: str, nodes: dict[str, str], layers: Sequence[str]) -> None:
    available = sorted(set(nodes) - {"logits"})
    for layer in layers:
        if layer not in available:
            raise ValueError(f"model {name} has no layer {layer!r}; it has {', '.join(available)}")


@cache
def _forwards(
    name: str, image_shape: ImageShape, classes: int, layers: frozenset[str]
) -> dict[bool, Forward]:
    """Functions `(model, images) -> tensors by node name`, for training mode (True) and
    evaluation mode (False).

    Tracing takes from milliseconds (tutorial pair) to a second (resnet110), so it is done
    once on a skeleton. The generated code reads the submodules from the model that it is
    given, so it works for every instance of the same architecture.
    """
    from torchvision.models.feature_extraction import create_feature_extractor

    model = skeleton(name, image_shape, classes)
    nodes: dict[str, str] = model.nodes  # type: ignore[assignment]
    wanted = sorted({nodes[layer] for layer in layers})
    extractor = create_feature_extractor(model, {node: node for node in wanted})
    # The extractor's class gets a new `forward` each time its mode changes.
    return {mode: type(extractor.train(mode)).forward for mode in (True, False)}


@cache
def _shapes(
    name: str, image_shape: ImageShape, classes: int
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    size = "x".join(map(str, image_shape))
    try:
        model = skeleton(name, image_shape, classes)
        nodes: dict[str, str] = model.nodes  # type: ignore[assignment]
        layers = sorted(set(nodes) - {"logits"})
        images = torch.zeros(2, *image_shape, device="meta")
        with torch.no_grad():
            logits = model(images)
            output = with_features(model, layers)(images)
    except KdbenchError:
        raise
    except Exception as error:  # the code of another package can raise anything
        raise BrokenModel(
            f"model {name} fails on images of {size} (channels x height x width): {one_line(error)}"
        ) from error
    for source, found in (("", logits), (" at the node of `logits`", output.logits)):
        if wrong := _wrong_logits(found, classes):
            raise BrokenModel(f"model {name} returns {wrong}{source}")
    return tuple((layer, tuple(output.features[layer].shape[1:])) for layer in layers)


def _wrong_logits(logits: object, classes: int) -> str | None:
    """What a model returns for two images where it is not their logits, and what is expected."""
    if not isinstance(logits, Tensor):
        kind = type(logits).__name__
        return f"a {kind} and not a tensor: let forward() return the logits alone"
    if logits.dim() != 2 or len(logits) != 2:
        found = "x".join(map(str, logits.shape)) or "no dimension"
        return f"a tensor of {found} for 2 images: let forward() return images x classes"
    if logits.shape[1] != classes:
        return (
            f"{logits.shape[1]} logits for an image, but the data has {classes} classes: give it "
            "as many outputs as it is built with `classes`"
        )
    return None


@cache
def _macs(name: str, image_shape: ImageShape, classes: int) -> int:
    return count_macs(
        skeleton(name, image_shape, classes), torch.zeros(1, *image_shape, device="meta")
    )


def count_macs(model: nn.Module, images: Tensor) -> int:
    """The multiply-accumulates of a forward without gradients."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(images)
    # The counter counts a multiplication and an addition as two.
    return counter.get_total_flops() // 2
