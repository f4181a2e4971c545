"""Names of models that are in no registry: what they are made from, in one text.

`torchvision:resnet18`, `timm:resnet18` and `nets.py:TinyNet`, the last of a user's file. What such
a model is built with follows as JSON: `options` that its function is given, `layers` that the
study names, and the checksum of the file. So one text says exactly which network a run trained.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kdbench.errors import KdbenchError


class BadModelName(KdbenchError, ValueError):
    """A model's name cannot be read; the message says what it should be."""


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
