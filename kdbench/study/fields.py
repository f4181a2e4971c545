"""The types of the values in a study file."""

import re
import reprlib
import unicodedata
from collections.abc import Collection, Iterable
from typing import Any

from pydantic import BeforeValidator

from kdbench.registry import KEY, did_you_mean

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9_-])?")

#: More seeds than this in one range are a slip of the finger.
MOST_SEEDS = 1000

#: Values as they are shown in a fault: a line at the most.
SHORT = reprlib.Repr()
SHORT.maxlevel, SHORT.maxstring, SHORT.maxother, SHORT.maxlong = 2, 60, 60, 60

#: Keys of a study file that have another name since, and what to write instead.
RENAMED = {
    "knobs": "'knobs' is called 'hparams' now",
    "tap": "'tap' is called 'layer' now",
    "frozen": "'frozen' is called 'teacher_outputs' now, and its value 'table' is called 'cache'",
}


def unknown_key(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a key that is not among `known`: its new name, or one that is near."""
    known = list(known)
    renamed = RENAMED.get(name, "")
    if any(f"'{key}' now" in renamed for key in known):
        return renamed
    return f"unknown {kind} '{name}'{did_you_mean(name, known)}"


def one_of(kind: str, known: Collection[str]) -> BeforeValidator:
    """A validator that takes one of `known` and otherwise says which is near."""

    def check(value: Any) -> Any:
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"unknown {kind} {SHORT.repr(value)}{did_you_mean(value, known)}")
        return value

    return BeforeValidator(check)


def number(value: Any) -> Any:
    """YAML 1.1 reads `5e-4` as text: take it as the number that was meant, and `yes` as none."""
    if isinstance(value, bool):
        raise ValueError("input should be a number")
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def seeds(value: Any) -> Any:
    """`0-39`, or `0-4,7`, as the numbers that it stands for."""
    return seed_list(value) if isinstance(value, str) else value


def seed_list(text: str) -> list[int]:
    """The numbers of `0-4` or `0,2,7`. Raises `ValueError` on anything else."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = (end.strip() for end in part.partition("-"))
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
            raise ValueError("write 0-4 or 0,2,7")
        if int(last) - int(first) >= MOST_SEEDS:
            raise ValueError(f"{part} is more than {MOST_SEEDS} seeds")
        found += range(int(first), int(last) + 1)
    return found


def safe_name(value: Any) -> Any:
    """A name becomes folders and files: nothing in it may leave them."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError(
            f"{SHORT.repr(value)} is not a name: use lower-case letters, digits, '.', '_' and '-', "
            "64 at the most, and no '.' at an end"
        )
    return value


def readable(value: str) -> str:
    """Refuse control characters, which pages, databases and terminals do not show."""
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in value):
        raise ValueError("it should hold no control characters")
    return value


def cite_key(value: Any) -> Any:
    """A citation key is written into LaTeX as it stands."""
    if not isinstance(value, str) or not KEY.fullmatch(value):
        raise ValueError(
            f"{SHORT.repr(value)} is not a citation key: use letters, digits and any of :._/+-"
        )
    return value
