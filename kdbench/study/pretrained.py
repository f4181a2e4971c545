"""The published weights of torchvision's and timm's networks, as files."""

from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import torch

from kdbench.errors import one_line
from kdbench.models.names import BadModelName, ModelName
from kdbench.study.fields import SHORT


class Pretrained(NamedTuple):
    """Weights in a file, and the mean and standard deviation that they were trained with."""

    path: Path
    mean: list[float]
    std: list[float]


def pretrained(model: Any) -> Pretrained:
    """The weights that torchvision takes for the best of `torchvision:NAME`, or those that timm
    loads for `timm:NAME`, from the cache of `torch.hub` or of the Hugging Face hub, into which
    they are fetched where they are not there.

    Raises `ValueError` for another model, one without such weights, and where they cannot be had.
    """
    try:
        name = ModelName.parse(model if isinstance(model, str) else "")
        found = {"torchvision": _of_torchvision, "timm": _of_timm}[name.source](name.entry)
    except (BadModelName, KeyError):
        found = None
    if not found:
        raise ValueError(
            "weights: pretrained is for networks of torchvision and timm that have published "
            f"weights, as torchvision:resnet18, not for {SHORT.repr(model)}; for others name a file"
        )
    return found


def _of_torchvision(entry: str) -> Pretrained | None:
    from torchvision.models import get_model_weights

    try:
        weights: Any = get_model_weights(entry).DEFAULT
    except (AttributeError, ValueError):
        return None
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


def _of_timm(entry: str) -> Pretrained | None:
    try:
        import timm
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise ValueError("timm is not installed: pip install 'kdbench[timm]'") from None
    published = timm.models.get_pretrained_cfg(entry)
    if not published or not published.hf_hub_id:
        return None
    try:
        path = hf_hub_download(published.hf_hub_id, "model.safetensors")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"cannot fetch model.safetensors of {published.hf_hub_id} from the Hugging Face hub: "
            f"{one_line(error)}; name a file instead"
        ) from error
    return Pretrained(Path(path), list(published.mean), list(published.std))
