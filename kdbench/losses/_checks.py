"""The checks of sizes that all losses share."""

from torch import Tensor


def dims(names: str, **tensors: Tensor) -> None:
    """Raise `ValueError` if the sizes of the tensors do not match `names`.

    `names` has one name for each dimension. A dimension in capitals must have the same
    size in all tensors, one in small letters may differ: with
    `dims("B c H W", student=a, teacher=b)` only the channels may differ.
    """
    dimensions = names.split()
    sizes: dict[str, tuple[str, int]] = {}
    for name, tensor in tensors.items():
        if tensor.dim() != len(dimensions):
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}, expected ({', '.join(dimensions)})"
            )
        for dimension, size in zip(dimensions, tensor.shape, strict=True):
            if not dimension.isupper():
                continue
            first, expected = sizes.setdefault(dimension, (name, size))
            if size != expected:
                raise ValueError(
                    f"{dimension} differs: {expected} in {first}, {size} in {name} "
                    f"(of shape {tuple(tensor.shape)})"
                )


def check_labels(logits: Tensor, target: Tensor) -> None:
    """Raise `ValueError` if the labels are not one class index for each row of the logits."""
    if target.dim() != 1 or target.shape[0] != logits.shape[0]:
        raise ValueError(
            f"labels have shape {tuple(target.shape)}, expected ({logits.shape[0]},): "
            "one class index for each example"
        )
