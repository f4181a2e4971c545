"""Parameters of a network that a loss may read: its classifier, and the scales and shifts of its
batch normalisations."""

from functools import cache

from torch import Tensor, nn

from kdbench.models.zoo import ImageShape, _triple, skeleton

Shapes = dict[str, tuple[int, ...]]


def own_parameters(model: nn.Module) -> dict[str, Tensor]:
    """The parameters of a `model` made by `build`, by name: see `parameter_shapes`."""
    nodes: dict[str, str] = model.nodes  # type: ignore[assignment]
    owners = {"classifier": nodes["logits"], **getattr(model, "norms", {})}
    return {
        f"{owner}.{name}": parameter
        for owner, path in owners.items()
        for name, parameter in _parameters(model, path)
    }


def parameter_shapes(name: str, image_shape: ImageShape, classes: int) -> Shapes:
    """The shape of each parameter that a loss may read of the model `name`.

    `classifier.weight` (classes x width) and `classifier.bias` (classes), where the logits are
    those of a linear layer; `stage1_pre.weight` and `stage1_pre.bias` (channels), and so on,
    where the model names the batch normalisation of a layer before its activation (`norms`).
    """
    return dict(_shapes(name, _triple(image_shape), classes))


@cache
def _shapes(
    name: str, image_shape: ImageShape, classes: int
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    model = skeleton(name, image_shape, classes)
    return tuple((k, tuple(p.shape)) for k, p in own_parameters(model).items())


def _parameters(model: nn.Module, path: str) -> list[tuple[str, nn.Parameter]]:
    """Those of a linear layer or batch normalisation; none of anything else."""
    try:
        module = model.get_submodule(path)
    except AttributeError:  # the node is no module
        return []
    known = isinstance(module, nn.Linear | nn.BatchNorm2d)
    return list(module.named_parameters()) if known else []
