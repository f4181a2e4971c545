"""The state that a run goes on from."""

import io
from collections.abc import Mapping
from typing import Any

import torch

#: Seconds between two checkpoints of a run on disk; a clean stop always keeps the last epoch.
CHECKPOINT_EVERY = 5.0


def packed(state: Mapping[str, Any]) -> bytes:
    """A member's state as the bytes of a checkpoint."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()
