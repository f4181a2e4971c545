"""The layers of a network that does not name its own: found on its graph."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from kdbench.errors import KdbenchError

Shape = tuple[int, ...]
#: What follows a feature map without making a new one: its input is the map before it.
ACTIVATIONS = ("relu", "gelu", "silu", "hardswish", "leaky_relu", "elu", "mish")


class NoLayers(KdbenchError, ValueError):
    """The layers of a network cannot be found, or one that the study names is not there."""


def find_nodes(
    model: nn.Module, image_shape: tuple[int, int, int], named: Mapping[str, str]
) -> dict[str, str]:
    """Layer names and the graph nodes that compute them, for a `model` on the meta device.

    `stage1..n` is the last map of each resolution that is computed, from the largest to the
    smallest of more than one position; `stage1_pre..n` its input where it is an activation;
    `embedding` the input of the last linear layer; `logits` the last node. `named` gives layers
    that the study names, as nodes or modules; stages among them replace all that are found.
    Raises `NoLayers`.
    """
    from torchvision.models.feature_extraction import get_graph_node_names

    training, evaluation = get_graph_node_names(model)
    names = [name for name in training[1:] if name in set(evaluation)]
    shapes = _shapes(model, image_shape, names)
    order = list(shapes)
    chosen = {layer: _node(name, order) for layer, name in named.items()}
    nodes = {"logits": order[-1]}
    linear = [name for name in order if isinstance(_module(model, name), nn.Linear)]
    if linear and order.index(linear[-1]) > 0:
        before = order[order.index(linear[-1]) - 1]
        if len(shapes[before]) == 1:
            nodes["embedding"] = before
    stages = {layer: name for layer, name in chosen.items() if layer.startswith("stage")}
    for layer, name in (stages or _last_of_each_resolution(shapes, image_shape)).items():
        nodes[layer] = name
        before = order[max(0, order.index(name) - 1)]
        if _is_activation(model, name) and shapes[before] == shapes[name]:
            nodes[f"{layer}_pre"] = before
    return nodes | chosen


def _node(name: str, order: Sequence[str]) -> str:
    """The node `name`, or the last one inside of the module `name`."""
    if inside := [node for node in order if node == name or node.startswith(f"{name}.")]:
        return inside[-1]
    raise NoLayers(f"it has no node or module {name!r}; its nodes are {', '.join(order)}")


def _shapes(
    model: nn.Module, image_shape: tuple[int, int, int], names: Sequence[str]
) -> dict[str, Shape]:
    """The shape without the batch of each node whose value is one tensor of two images'."""
    from torchvision.models.feature_extraction import create_feature_extractor

    extractor = create_feature_extractor(model, {name: name for name in names}).eval()
    with torch.no_grad():
        values = extractor(torch.zeros(2, *image_shape, device="meta"))
    return {
        name: tuple(value.shape[1:])
        for name, value in values.items()
        if isinstance(value, Tensor) and value.dim() > 1 and len(value) == 2
    }


def _last_of_each_resolution(
    shapes: Mapping[str, Shape], image_shape: tuple[int, int, int]
) -> dict[str, str]:
    """Maps of the image's proportions, so that none with the channels last is taken for one;
    what is enlarged again after a smaller one is no stage."""
    _, height, width = image_shape
    last: dict[Shape, str] = {}
    for name, shape in shapes.items():
        if len(shape) != 3 or shape[1] * shape[2] == 1:
            continue
        skew = (shape[1] / shape[2]) / (height / width)
        if 0.7 < skew < 1.4 and all(shape[1] <= size[0] for size in last):
            last[shape[1:]] = name
    return {f"stage{n}": name for n, name in enumerate(last.values(), 1)}


def _module(model: nn.Module, name: str) -> nn.Module | None:
    return dict(model.named_modules()).get(name)


def _is_activation(model: nn.Module, name: str) -> bool:
    module = _module(model, name)
    kind = type(module).__name__.lower() if module else name.rpartition(".")[2]
    return kind.rstrip("_0123456789") in ACTIVATIONS
