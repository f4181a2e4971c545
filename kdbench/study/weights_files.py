"""Files of weights, as a study file names them."""

import hashlib
from pathlib import Path
from typing import Any

from pydantic import ValidationInfo

from kdbench.study.fields import SHORT

_PATHS: dict[str, Path] = {}


def weights_file(value: Any, info: ValidationInfo) -> Any:
    """`NAME#CHECKSUM` for a file, which is looked for beside the study
    (`info.context["folder"]`). Raises `ValueError` where it cannot be read."""
    if not isinstance(value, str):
        raise ValueError(f"weights should name a file, not {SHORT.repr(value)}")
    if value in _PATHS:
        return value
    path = Path((info.context or {}).get("folder", ".")) / value
    try:
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no name of a file"
        raise ValueError(f"cannot read the weights {SHORT.repr(str(path))}: {reason}") from None
    named = f"{path.name}#{checksum}"
    _PATHS[named] = path
    return named


def path_of(named: str) -> Path:
    """The file that a study names."""
    return _PATHS[named]


def checksum_of(named: str) -> str:
    """12 hex digits of the SHA-256 of the file that a study names."""
    return named.rpartition("#")[2]
