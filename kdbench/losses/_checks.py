"""The one check of sizes that all losses share."""

from torch import Tensor


def dims(names: str, **tensors: Tensor) -> None:
    """Refuse tensors whose sizes are not what `names` says.

    `names` lists one word per dimension. A word in capitals has to have one size in all
    tensors; a word in small letters may differ. `dims("B c H W", student=a, teacher=b)`:
    the channels may differ, nothing else.
    """
    words = names.split()
    known: dict[str, tuple[str, int]] = {}
    for who, tensor in tensors.items():
        if tensor.dim() != len(words):
            raise ValueError(
                f"{who} has shape {tuple(tensor.shape)}, expected ({', '.join(words)})"
            )
        for word, size in zip(words, tensor.shape, strict=True):
            first, expected = known.setdefault(word, (who, size)) if word.isupper() else (who, size)
            if size != expected:
                raise ValueError(
                    f"{word} differs: {expected} in {first}, {size} in {who} "
                    f"(of shape {tuple(tensor.shape)})"
                )


def labels(logits: Tensor, target: Tensor) -> None:
    """Refuse labels that are not one class index for each row of the logits."""
    if target.dim() != 1 or target.shape[0] != logits.shape[0]:
        raise ValueError(
            f"labels have shape {tuple(target.shape)}, expected ({logits.shape[0]},): "
            "one class index for each example"
        )
