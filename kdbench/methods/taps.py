"""Which taps a run's networks must show: a method's names and patterns, resolved."""

import fnmatch
from collections.abc import Callable, Mapping
from typing import Any

from kdbench import models
from kdbench.methods.base import Method
from kdbench.methods.networks import Frozen, Trained
from kdbench.records.spec import RunSpec


def taps_of_run(
    spec: RunSpec,
    method: Method,
    model_of: Callable[[str], str],
    image_shape: tuple[int, int, int],
    classes: int,
) -> tuple[str, ...]:
    """The taps that a run's method reads; `model_of` gives the student model of a frozen run.

    Raises `ValueError` for a tap that one of the run's models lacks.
    """
    names: dict[str, str] = {}
    for role, source in method.networks().items():
        if isinstance(source, Trained):
            names[role] = spec.models[source.slot]
        elif isinstance(source, Frozen):
            names[role] = model_of(spec.frozen[role])
        else:
            names[role] = spec.models["student"]
    known = {role: models.taps_of(name, image_shape, classes) for role, name in names.items()}
    return resolve_taps(method.taps(), known, names)


def resolve_taps(
    wanted: tuple[str, ...],
    known: Mapping[str, Mapping[str, Any]],
    role_models: Mapping[str, str],
) -> tuple[str, ...]:
    """The taps that `wanted` (names and patterns) stands for, sorted.

    Raises `ValueError` that names the model, the tap it lacks and those it has.
    """
    taps: set[str] = set()
    for name in wanted:
        if any(sign in name for sign in "*?["):
            shared = set.intersection(*(set(shapes) for shapes in known.values()))
            taps |= set(fnmatch.filter(sorted(shared), name))
            continue
        for role, shapes in known.items():
            if name not in shapes:
                raise ValueError(
                    f"model {role_models[role]} has no tap '{name}'; it has "
                    f"{', '.join(sorted(shapes))}"
                )
        taps.add(name)
    return tuple(sorted(taps))
