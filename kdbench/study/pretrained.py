"""The published weights of torchvision's networks, as files."""

from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import torch

from kdbench.models.names import BadModelName, ModelName
from kdbench.study.fields import SHORT


class Pretrained(NamedTuple):
    """Weights in a file, and the mean and standard deviation that they were trained with."""

    path: Path
    mean: list[float]
    std: list[float]


def pretrained(model: Any) -> Pretrained:
    """The weights that torchvision takes for the best of `torchvision:NAME`, from the cache of
    `torch.hub`, into which they are fetched where they are not there.

    Raises `ValueError` for another model, one without such weights, and where they cannot be had.
    """
    from torchvision.models import get_model_weights

    try:
        name = ModelName.parse(model if isinstance(model, str) else "")
        assert name.source == "torchvision"
        weights: Any = get_model_weights(name.entry).DEFAULT
    except (AssertionError, AttributeError, BadModelName, ValueError):
        raise ValueError(
            f"weights: pretrained is for networks of torchvision that have published weights, as "
            f"torchvision:resnet18, not for {SHORT.repr(model)}; for others name a file"
        ) from None
    path = Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(weights.url).path).name)
    if not path.is_file():
        # The name ends in the first digits of the file's checksum, which is held to them.
        prefix = path.stem.rpartition("-")[2]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(weights.url, str(path), hash_prefix=prefix)
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"cannot fetch {weights.url}: {error}; put that file at {path}"
            ) from error
    transforms = weights.transforms()
    return Pretrained(path, list(transforms.mean), list(transforms.std))
