"""The model of a slot, as a study file names it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationInfo

from kdbench.errors import KdbenchError
from kdbench.models import MODELS
from kdbench.models.foreign import check_foreign
from kdbench.models.names import ModelName, is_foreign
from kdbench.models.source_files import read_source
from kdbench.registry import did_you_mean
from kdbench.study.fields import SHORT

#: What may stand beside `model`: `options` for its function, and `layers` by name.
MODEL_KEYS = {"model", "options", "layers"}


def model_name(value: Any, info: ValidationInfo) -> Any:
    """The one text that says which network a slot holds: see `kdbench.models.names`.

    A file is looked for beside the study (`info.context["folder"]`). Raises `ValueError`.
    """
    return in_study(value, (info.context or {}).get("folder", "."))


def in_study(value: Any, folder: Path | str = ".") -> str:
    """The same for a study in `folder`. Raises `ValueError`."""
    parts = value if isinstance(value, Mapping) else {"model": value}
    name, options, layers = (parts.get(key) for key in ("model", "options", "layers"))
    if not isinstance(name, str) or not (is_foreign(name) or name in MODELS):
        foreign = "; another library's or your own: torchvision:NAME, timm:NAME, ./FILE.py:NAME"
        raise ValueError(f"unknown model {SHORT.repr(name)}{did_you_mean(name, MODELS)}{foreign}")
    if not is_foreign(name):
        if options or layers:
            raise ValueError(f"the model {name} takes no options and names its own layers")
        return name
    for key, part in (("options", options), ("layers", layers)):
        if part is not None and not (isinstance(part, Mapping) and all(map(_is_text, part))):
            raise ValueError(f"{key} should be a mapping of names, not {SHORT.repr(part)}")
    if not _is_plain(options):
        raise ValueError("options should hold numbers, texts, lists and mappings of them")
    if layers and not all(map(_is_text, layers.values())):
        raise ValueError("layers should name a node or module for each layer")
    try:
        return str(_checked(name, options or {}, layers or {}, Path(folder)))
    except KdbenchError as error:
        raise ValueError(str(error.args[0])) from None


def _checked(
    name: str, options: Mapping[str, Any], layers: Mapping[str, str], folder: Path
) -> ModelName:
    given = ModelName.parse(name)
    if given.source.endswith(".py") and not given.checksum:
        path = folder / given.source
        given = ModelName(path.name, given.entry, checksum=read_source(path))
    whole = ModelName(
        given.source,
        given.entry,
        {**given.options, **options},
        {**given.layers, **layers},
        given.checksum,
    )
    check_foreign(whole)
    return whole


def _is_plain(options: Any) -> bool:
    """Whether JSON can hold the options, as a date or a number that is none cannot be."""
    try:
        json.dumps(options, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _is_text(value: object) -> bool:
    return isinstance(value, str)
