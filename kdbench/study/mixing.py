"""Whether a method can learn from images that the recipe mixes of two."""

import torch
from torch import Tensor, nn

from kdbench.methods.base import Method
from kdbench.methods.layers import answered
from kdbench.methods.types import STRONG, LabelsRead, MixedBatch, Progress, Shapes
from kdbench.models.output import Output


def mixing_fault(method: Method, shapes: Shapes, helpers: nn.ModuleDict) -> str | None:
    """Why not, or None. The loss is computed once on tensors without values, to see whether it
    reads labels; another error in it is the probe's to report."""
    if method.image_score() is not None:
        return "learns from gradients of a score of the label, and mixed images have two labels"
    if others := sorted(set(method.examples.values()) - {STRONG}):
        return f"looks at {', '.join(others)} examples, which a recipe with mixed images has not"

    def empty(*size: int) -> Tensor:
        return torch.empty(size, device="meta")

    outputs = {
        role: Output(
            empty(2, shapes.classes),
            {name: empty(2, *size) for name, size in features.items()},
            {name: empty(*size) for name, size in shapes.parameters[role].items()},
        )
        for role, features in shapes.features.items()
    }
    position = torch.empty(2, dtype=torch.int64, device="meta")
    pair, share = (position, position), empty()
    batch = MixedBatch(empty(2, 1, 1, 1), pair, share, position, torch.Generator())
    on_meta = helpers.to("meta")
    try:
        method.loss(answered(method, outputs, on_meta), batch, on_meta, Progress(1.0, 1.0, 1.0))
    except LabelsRead as reason:
        return str(reason)
    except Exception:  # the code of another package can raise anything
        return None
    return None
