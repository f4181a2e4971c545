"""Which taps a run's networks must show: a method's names and patterns, resolved."""

import fnmatch
from collections.abc import Mapping
from typing import Any


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
