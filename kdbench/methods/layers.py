"""What the loss of a run sees of its networks: layers, sizes, and the answers of a head."""

import fnmatch
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from kdbench import models
from kdbench.methods.base import Method
from kdbench.methods.networks import RoleModels
from kdbench.methods.types import Shapes
from kdbench.models.output import Output
from kdbench.records.spec import RunSpec


def layers_of_run(
    spec: RunSpec,
    method: Method,
    model_of: Callable[[str], str],
    image_shape: tuple[int, int, int],
    classes: int,
) -> tuple[str, ...]:
    """The layers that a run's method reads; `model_of` gives the student model of a frozen run.

    Raises `ValueError` for a layer that one of the run's models lacks.
    """
    names = role_models_of_run(spec, method, model_of)
    known = {
        role: models.feature_shapes(name, image_shape, classes) for role, name in names.items()
    }
    return resolve_layers(method.layers(), known, names)


def role_models_of_run(
    spec: RunSpec, method: Method, model_of: Callable[[str], str]
) -> dict[str, str]:
    """The model of each role of a run; `model_of` gives the student model of a frozen run."""
    return RoleModels(
        method.networks(),
        in_slot=lambda slot: spec.models[slot],
        of_frozen=lambda role, _: model_of(spec.frozen_runs[role]),
    ).by_role()


def shapes_of_run(
    role_models: Mapping[str, str],
    layers: tuple[str, ...],
    image_shape: tuple[int, int, int],
    classes: int,
    examples: int,
) -> Shapes:
    """The sizes that a method's helpers are made for; `role_models` names the model of each
    role, `layers` are those that the method reads."""
    features, parameters = {}, {}
    for role, model in role_models.items():
        every = models.feature_shapes(model, image_shape, classes)
        features[role] = {layer: every[layer] for layer in layers}
        parameters[role] = models.parameter_shapes(model, image_shape, classes)
    return Shapes(classes, examples, features, parameters)


def answered(
    method: Method, outputs: Mapping[str, Output], helpers: nn.ModuleDict
) -> dict[str, Output]:
    """The outputs of a run's networks, the student's with what its head answers."""
    head, out = method.head(helpers), dict(outputs)
    if head is not None:
        out["student"] = models.answer(head, out["student"].features, out["student"].parameters)
    return out


def resolve_layers(
    wanted: tuple[str, ...],
    known: Mapping[str, Mapping[str, Any]],
    role_models: Mapping[str, str],
) -> tuple[str, ...]:
    """The layers that `wanted` (names and patterns) stands for, sorted.

    Raises `ValueError` that names the model, the layer it lacks and those it has.
    """
    layers: set[str] = set()
    for name in wanted:
        if any(sign in name for sign in "*?["):
            shared = set.intersection(*(set(shapes) for shapes in known.values()))
            layers |= set(fnmatch.filter(sorted(shared), name))
            continue
        for role, shapes in known.items():
            if name not in shapes:
                raise ValueError(
                    f"model {role_models[role]} has no layer '{name}'; it has "
                    f"{', '.join(sorted(shapes))}"
                )
        layers.add(name)
    return tuple(sorted(layers))
