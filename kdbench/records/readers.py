"""Reading a record's files, and saying in plain words what is wrong with them. No torch here."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from safetensors import safe_open

from kdbench.errors import KdbenchError
from kdbench.records.arrays import MOST_ARRAYS, check_predictions, unpack_arrays
from kdbench.records.bounded import MOST_TEXT, MOST_WEIGHTS, Refused, inside, read_bounded
from kdbench.records.spec import RunSpec

T = TypeVar("T")

#: The format of a record, in its result.json; a record without one is of format 0. Raise it
#: with any change after which this reader would misread a new record or a new reader an old
#: one: a file's name, the meaning or absence of a key of spec.json, result.json, test.json or
#: metrics.jsonl, the names of tensors or arrays. Not for a new key that may be missing.
#: Format 2: the spec has `hparams`, the result `loss_weights`.
RECORD_FORMAT = 2

#: Keys that only the specs of formats 0 and 1 have.
OLDER_SPEC_KEYS = {"knobs", "frozen", "weights"}


#: Under these keys a JSON object carries the SHA-256 of the rest of it, and those of the files
#: that were written before it, by name.
SEAL, FILES = "sha256", "sha256_of_files"

#: Bytes of the header of a safetensors file; a network of ten thousand tensors takes one million.
MOST_HEADER = 8 << 20

DIFFERS = "its content is not what was written: the checksum differs"


class CorruptRecord(KdbenchError):
    """A file of a record cannot be what was written; `path` and `why` say more."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(path, why)
        self.path, self.why = path, why

    def __str__(self) -> str:
        return (
            f"{self.path} is damaged: {self.why}. `kdbench doctor` moves the record to "
            "runs/quarantine/; the next start trains it again."
        )


class OtherFormat(CorruptRecord):
    """A record that an older or a newer kdbench wrote: nothing is wrong with it."""

    def __init__(self, path: Path, number: int) -> None:
        if number > RECORD_FORMAT:
            age, advice = "a newer", "upgrade kdbench"
        else:
            age = "an older"
            advice = "its run is trained again under another id; remove the folder if not needed"
        formats = f"format {number}; this one reads {RECORD_FORMAT}"
        super().__init__(path, f"written by {age} kdbench ({formats}): {advice}")

    def __str__(self) -> str:
        return f"{self.path} was {self.why}"


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the checksum of its content, which `read_object` verifies."""
    return {**value, SEAL: _checksum_of_object(value)}


def checksum(content: bytes) -> str:
    """The SHA-256 of a file's content, in hex."""
    return hashlib.sha256(content).hexdigest()


def _checksum_of_object(value: Mapping[str, Any]) -> str:
    # As it will be read: numbers that are keys become text, and sort differently.
    read = json.loads(json.dumps(value))
    return checksum(json.dumps(read, sort_keys=True).encode())


def verify(path: Path, content: bytes, checksums: Mapping[str, str]) -> bytes:
    """The content of a file, which must be the one that `checksums` names, by file name; one
    that it does not name (a record of an earlier version) passes. Raises `CorruptRecord`."""
    expected = checksums.get(path.name)
    if expected is not None and checksum(content) != expected:
        raise CorruptRecord(path, DIFFERS)
    return content


def file_of_record(path: Path) -> Path:
    """The path, unless it leads out of the folder of all records. Raises `CorruptRecord`."""
    try:
        inside(path, path.parent.parent)
    except Refused as error:
        raise CorruptRecord(path, error.why) from error
    return path


def read_content(path: Path, most: int = MOST_TEXT) -> bytes:
    """The bytes of a record's file. Raises `CorruptRecord`, `FileNotFoundError`."""
    try:
        return read_bounded(path, path.parent.parent, most)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CorruptRecord(path, f"it cannot be read ({error.strerror})") from error


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file, or None where there is no file. A checksum in it (`sealed`)
    is verified and taken out. Raises `CorruptRecord`."""
    value = _parsed(path)
    return None if value is None else _unsealed(path, value)


def _content(path: Path) -> bytes | None:
    """What is in a file, or None where there is none. Raises `CorruptRecord`."""
    try:
        return read_content(path)
    except FileNotFoundError:
        if path.is_symlink():
            raise CorruptRecord(path, "it is a link to nothing") from None
        return None


def _parsed(path: Path) -> dict[str, Any] | None:
    content = _content(path)
    if content is None:
        return None
    try:
        value = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise CorruptRecord(path, f"it is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise CorruptRecord(path, "it is not a JSON object")
    return value


def _unsealed(path: Path, value: dict[str, Any]) -> dict[str, Any]:
    expected = value.pop(SEAL, None)
    sealed = expected is not None or FILES in value
    if sealed and expected != _checksum_of_object(value):
        raise CorruptRecord(path, DIFFERS)
    return value


def read_spec(path: Path, run_id: str) -> RunSpec | None:
    """The spec of run `run_id` in a file, or None. Raises `CorruptRecord`, `OtherFormat`."""
    raw = read_object(path)
    if raw is None:
        return None
    if OLDER_SPEC_KEYS & set(raw):
        raise OtherFormat(path, RECORD_FORMAT - 1)
    try:
        spec = RunSpec.from_dict(raw)
        found = spec.id
        for part in (spec.models, spec.hparams, spec.frozen_runs):
            if not isinstance(part, dict):
                raise TypeError(f"{part!r} is not a mapping")
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptRecord(path, f"it is not a run's spec ({error!r})") from error
    if found != run_id:
        raise CorruptRecord(path, f"it is the spec of run {found}, not of {run_id}")
    return spec


def read_result(path: Path) -> dict[str, Any] | None:
    """The result without its format, or None; still with the checksums of the files that were
    written before it. Raises `CorruptRecord`, `OtherFormat`."""
    raw = _parsed(path)
    if raw is None:
        return None
    number = raw.get("format", 0)
    if type(number) is not int:
        raise CorruptRecord(path, f"its format is {number!r}")
    if number != RECORD_FORMAT:
        raise OtherFormat(path, number)
    del _unsealed(path, raw)["format"]
    if not isinstance(raw.get("state"), str):
        raise CorruptRecord(path, "it does not say how the training ended")
    return raw


def read_rows(
    path: Path, checksums: Mapping[str, str] = MappingProxyType({})
) -> tuple[list[dict[str, Any]], int]:
    """The rows of a metrics file in order of epochs, and how many lines cannot be read.
    Raises `CorruptRecord` where it is not the file of `checksums`, or no file."""
    content = _content(path)
    if content is None and path.name in checksums:
        raise CorruptRecord(path, "it is missing")
    lines = verify(path, content or b"", checksums).splitlines()
    rows: list[dict[str, Any]] = []
    for line in lines:
        try:
            row = json.loads(line.decode())
        except (ValueError, RecursionError):
            continue
        epoch = row.get("epoch") if isinstance(row, dict) else None
        if type(epoch) is int and (not rows or epoch > rows[-1]["epoch"]):
            rows.append(row)
    return rows, len(lines) - len(rows)


def read_predictions(path: Path, checksums: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The labels and logits of an npz file, read-only. Raises `CorruptRecord`,
    `FileNotFoundError`."""
    content = verify(path, read_content(path, MOST_ARRAYS), checksums)
    try:
        arrays = unpack_arrays(content)
        check_predictions(arrays)
        return arrays
    except Exception as error:
        # zipfile, zlib and numpy each raise their own on garbage.
        raise CorruptRecord(path, f"its arrays cannot be read ({error})") from error


def read_weights(path: Path, checksums: Mapping[str, str]) -> bytes:
    """A safetensors file whose header, length and checksum are right. Raises `CorruptRecord`."""
    try:
        content = read_content(path, MOST_WEIGHTS)
        header = int.from_bytes(content[:8], "little")
        if header > MOST_HEADER:
            raise CorruptRecord(path, f"it is not whole (its header says it has {header:,} bytes)")
        with safe_open(path, framework="numpy"):
            return verify(path, content, checksums)
    except CorruptRecord:
        raise
    except FileNotFoundError as error:
        raise CorruptRecord(path, "it is missing") from error
    except Exception as error:  # SafetensorError is an Exception and no more
        raise CorruptRecord(path, f"it is not whole ({error})") from error
