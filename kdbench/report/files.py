"""The leaderboard's files: each written whole, the same bytes from the same numbers."""

import gzip
import io
from pathlib import Path

import pandas as pd

from kdbench.report.board import Leaderboard
from kdbench.report.frame import COLUMNS
from kdbench.report.latex import latex
from kdbench.report.markdown import markdown
from kdbench.store import write_whole

WALL_CLOCK = ("seconds",)
"""Metrics over epochs that two equal runs may differ in."""


def write(
    board: Leaderboard, folder: Path, runs: pd.DataFrame, curves: pd.DataFrame
) -> tuple[Path, ...]:
    """Write leaderboard.csv, .md, .tex, runs.csv.gz and curves.csv.gz; their paths.

    `runs` is a frame of `frame.COLUMNS`; `curves` has `id`, `epoch`, `metric`, `value`.
    Floats are written with all the digits that reading them back needs.
    """
    contents = {
        "leaderboard.csv": _csv(board.table),
        "leaderboard.md": markdown(board).encode(),
        "leaderboard.tex": latex(board).encode(),
        "runs.csv.gz": squeeze(_csv(runs[list(COLUMNS)])),
        "curves.csv.gz": squeeze(_csv(_curves(curves))),
    }
    for name, content in contents.items():
        write_whole(folder / name, content)
    return tuple(folder / name for name in contents)


def _csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, lineterminator="\n").encode()


def _curves(curves: pd.DataFrame) -> pd.DataFrame:
    """In one order, with wall-clock metrics marked."""
    curves = curves[["id", "epoch", "metric", "value"]].copy()
    measured = curves["metric"].isin(WALL_CLOCK)
    curves["metric"] = curves["metric"].where(~measured, "measured." + curves["metric"])
    return curves.sort_values(["id", "metric", "epoch"], kind="stable", ignore_index=True)


def squeeze(content: bytes) -> bytes:
    """gzip without the name and the time, so that equal content gives equal bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=9, mtime=0) as file:
        file.write(content)
    return buffer.getvalue()
