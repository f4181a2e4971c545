"""From runs to a leaderboard and its files. Never torch.

`frame` reads runs from MLflow (or from the records), `board` judges them,
`captions` says in words what was done, and the writers give the one object its faces.
Names are looked up when they are used, so that importing this package is cheap.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Behind": "data.collect",
    "Leaderboard": "leaderboard",
    "MixedRuns": "data.runs",
    "build": "write",
    "leaderboard": "leaderboard",
    "records_frame": "data.runs",
    "runs_frame": "data.runs",
    "terminal": "writers.console",
    "write": "write",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
