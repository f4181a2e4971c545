"""The files of users' own networks, found by their content.

A run names a file by its checksum. A copy in the store of its records makes sure that the network
can be built again when the file has changed or is gone.
"""

import hashlib
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kdbench.errors import KdbenchError, one_line
from kdbench.models.names import BadModelName, ModelName, is_foreign
from kdbench.records.files import atomic_write

#: Where copies are kept below a root.
KEPT_IN = "runs/model_files"
#: The longest file that is read: larger ones hold no networks.
MOST_BYTES = 1 << 20

_SOURCES: dict[str, str] = {}
_MODULES: dict[str, types.ModuleType] = {}
_FOLDERS: list[Path] = []


class NoSourceFile(KdbenchError, ValueError):
    """The file of a user's network cannot be found or run."""


def read_source(path: Path) -> str:
    """The checksum of a Python file, which is remembered. Raises `BadModelName` where it cannot
    be read."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadModelName(f"{path} has more than {MOST_BYTES:,} bytes; name a Python file")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadModelName(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise BadModelName(f"{path} is no text in UTF-8; name a Python file") from None
    checksum = hashlib.sha256(text.encode()).hexdigest()[:12]
    _SOURCES[checksum] = text
    return checksum


def keep_sources(names: Iterable[str], root: Path) -> None:
    """Copy the files of these models, which were read, to where other processes and later starts
    look for them."""
    for name in filter(is_foreign, names):
        if checksum := ModelName.parse(name).checksum:
            target = root / KEPT_IN / f"{checksum}.py"
            target.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(target, _SOURCES[checksum].encode())


def search_sources(root: Path) -> None:
    """Look for files of networks among those kept below `root` too."""
    if root / KEPT_IN not in _FOLDERS:
        _FOLDERS.append(root / KEPT_IN)


def source_module(name: str, checksum: str) -> Any:
    """The module of a file, run once a process; `name` is what messages call it.

    Raises `NoSourceFile` where no file has this content, and where it cannot be run.
    """
    if checksum not in _MODULES:
        module = types.ModuleType(f"kdbench_file_{checksum}")
        module.__file__ = name
        try:
            exec(compile(source_text(name, checksum), name, "exec"), module.__dict__)
        except KdbenchError:
            raise
        except (Exception, SystemExit) as error:  # a user's code can raise anything
            raise NoSourceFile(f"{name} cannot be run: {one_line(error)}") from error
        _MODULES[checksum] = module
    return _MODULES[checksum]


def source_text(name: str, checksum: str) -> str:
    """The text of a file. Raises `NoSourceFile` where no file has this content."""
    for folder in () if checksum in _SOURCES else _FOLDERS:
        path = folder / f"{checksum}.py"
        if path.is_file() and read_source(path) == checksum:
            break
    if checksum not in _SOURCES:
        places = ", ".join(map(str, _FOLDERS)) or "no folder"
        raise NoSourceFile(
            f"the file {name} with checksum {checksum} is not there any more (looked in {places}): "
            "bring back the file as it was when the run was made"
        )
    return _SOURCES[checksum]
