"""Options of the command line that have a syntax of their own."""

import re
from typing import Any

from kdbench.cli.app import UsageError


def given(option: str, text: str | None) -> str:
    """What an option was given, empty where it was not. Raises `UsageError` where it was given
    nothing, as by a script's variable that is not set: the whole study would run."""
    if text == "":
        raise UsageError(f"{option}: write something, or leave {option} out")
    return text or ""


def parse_labels(text: str) -> tuple[str, ...]:
    """`kd,rkd` as labels. Raises `UsageError` where a label is empty."""
    return _parts(text, f"--only {text}: write labels with commas between, as in kd,rkd")


def parse_paper_columns(text: str) -> tuple[str, ...]:
    """`default,tuned,nll` as names of columns. Raises `UsageError` where a name is empty."""
    example = "default,tuned,difference"
    return _parts(text, f"--columns {text}: write names with commas between, as in {example}")


def _parts(text: str, fault: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in text.split(",")) if text else ()
    if "" in parts:
        raise UsageError(fault)
    return parts


def parse_seeds(text: str) -> tuple[int, ...]:
    """`0-4` or `0,2,7` as numbers. Raises `UsageError` on anything else."""
    from kdbench.study.fields import seed_list

    try:
        return tuple(seed_list(text)) if text else ()
    except ValueError as error:
        raise UsageError(f"--seeds {text}: {error}") from None


def parse_columns(text: str) -> dict[str, str]:
    """`score=test/acc,method=Name` as the file's own name of each column. Raises `UsageError` on
    anything else."""
    from kdbench.report.data.delimited import ALLOWED

    columns: dict[str, str] = {}
    # A name may hold a comma, but not one with `score=` behind it.
    for part in re.split(rf",(?=\s*(?:{'|'.join(ALLOWED)})\s*=)", text) if text else ():
        column, sign, name = (end.strip() for end in part.partition("="))
        if not sign or not name or column not in ALLOWED or column in columns:
            raise UsageError(
                f"--map {text}: write COLUMN=NAME, as in score=test/acc,method=Name; COLUMN is one "
                f"of {', '.join(ALLOWED)}, each once"
            )
        columns[column] = name
    return columns


def parse_change(text: str) -> tuple[str, Any]:
    """`recipe.epochs=2` as a key and a YAML value. Raises `UsageError` on anything else."""
    import yaml

    key, sign, value = text.partition("=")
    if not sign or not key:
        raise UsageError(f"--set {text}: write KEY=VALUE, as in recipe.epochs=2")
    try:
        return key, yaml.safe_load(value)
    # A value's own constructor may refuse it (`2020-13-45`), or its depth be too great.
    except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError):
        raise UsageError(f"--set {text}: {value!r} is not a YAML value") from None
