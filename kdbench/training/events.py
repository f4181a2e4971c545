"""What a run reports while it trains: plain dataclasses, for which a driver needs no torch."""

import traceback
from dataclasses import dataclass
from typing import Any

from kdbench.masking import mask


@dataclass(frozen=True)
class Epochs:
    """Epochs that a run has finished, and its state after the last of them."""

    id: str
    rows: list[dict[str, Any]]
    checkpoint: bytes | None


@dataclass(frozen=True)
class Finished:
    """A run has ended (`done` or `diverged`); weights as safetensors bytes."""

    id: str
    result: dict[str, Any]
    weights: bytes | None


@dataclass(frozen=True)
class Failed:
    """A run's method raised; the other runs went on. `error` is what `cause` makes of it."""

    id: str
    error: dict[str, Any]


Event = Epochs | Finished | Failed


def cause(error: BaseException) -> dict[str, Any]:
    """What is kept of an error, without secrets: a message, the traceback, and the system's
    number for it."""
    return {
        "message": mask(f"{type(error).__name__}: {error}"),
        "traceback": mask("".join(traceback.format_exception(error))),
        "errno": getattr(error, "errno", None),
    }
