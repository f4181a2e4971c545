"""Which layers a run's networks must show: a method's names and patterns, resolved."""

import fnmatch
from collections.abc import Callable, Mapping
from typing import Any

from kdbench import models
from kdbench.methods.base import Method
from kdbench.methods.networks import RoleModels
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
    names = RoleModels(
        method.networks(),
        in_slot=lambda slot: spec.models[slot],
        of_frozen=lambda role, _: model_of(spec.frozen_runs[role]),
    ).by_role()
    known = {
        role: models.feature_shapes(name, image_shape, classes) for role, name in names.items()
    }
    return resolve_layers(method.layers(), known, names)


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
