"""Names of models that are in no registry: what they are made from, in one text.

`torchvision:resnet18`, `timm:resnet18` and `nets.py:TinyNet`, the last of a user's file. What such
a model is built with follows as JSON: `options` that its function is given, `layers` that the
study names, and the checksum of the file. So one text says exactly which network a run trained.

The name of any model, those of the registry too, may end in what it sees of the study's images:
`resnet8{"input":{"size":64}}`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from kdbench.errors import KdbenchError


class BadModelName(KdbenchError, ValueError):
    """A model's name cannot be read; the message says what it should be."""


@dataclass(frozen=True)
class NetworkInput:
    """What a network sees: images scaled to `size` pixels a side (0: as they are), each channel
    then times `scale` plus `shift` (empty: as they are)."""

    size: int = 0
    scale: tuple[float, ...] = ()
    shift: tuple[float, ...] = ()


def with_input(name: str, given: NetworkInput) -> str:
    """The name of the model `name` that sees what `given` says, whatever it saw before."""
    base, _, text = without_input(name)[0].partition("{")
    parts = json.loads("{" + text) if text else {}
    parts["input"] = {key: value for key, value in asdict(given).items() if value}
    return base + json.dumps(parts, sort_keys=True, separators=(",", ":"))


def without_input(name: str) -> tuple[str, NetworkInput | None]:
    """The name of a model that sees the study's images, and what `name` says that it sees."""
    base, brace, text = name.partition("{")
    if not brace:
        return name, None
    parts = json.loads(brace + text)
    given = parts.pop("input", None)
    if given is None:
        return name, None
    rest = json.dumps(parts, sort_keys=True, separators=(",", ":")) if parts else ""
    values = (tuple(given.get(key, ())) for key in ("scale", "shift"))
    return base + rest, NetworkInput(given.get("size", 0), *values)


@dataclass(frozen=True)
class ModelName:
    """A model as a study names it: `source` is `torchvision`, `timm` or the name of a file,
    `entry` what it is called there, `checksum` 12 hex digits of the file's SHA-256."""

    source: str
    entry: str
    options: Mapping[str, Any] = field(default_factory=dict)
    layers: Mapping[str, str] = field(default_factory=dict)
    checksum: str = ""

    def __str__(self) -> str:
        parts = {"options": self.options, "layers": self.layers, "sha256": self.checksum}
        given = {key: value for key, value in parts.items() if value}
        text = json.dumps(given, sort_keys=True, separators=(",", ":")) if given else ""
        return f"{self.source}:{self.entry}{text}"

    @staticmethod
    def parse(text: str) -> "ModelName":
        """The name that `str` made `text` from. Raises `BadModelName`."""
        base, brace, rest = text.partition("{")
        source, colon, entry = base.rpartition(":")
        if not (colon and source and entry):
            raise BadModelName(f"{text[:100]!r} is no model of a library or file")
        try:
            parts = json.loads(brace + rest) if brace else {}
            return ModelName(
                source,
                entry,
                parts.pop("options", {}),
                parts.pop("layers", {}),
                parts.pop("sha256", ""),
            )
        except (AttributeError, ValueError) as error:
            raise BadModelName(f"{text[:100]!r} does not end in JSON: {error}") from None


def is_foreign(name: str) -> bool:
    """Whether `name` is that of a model of a library or file, and not one of the registry."""
    return ":" in name.partition("{")[0]
