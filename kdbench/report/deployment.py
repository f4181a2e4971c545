"""What one would deploy: each network of a study once, the methods that train it best, and what
it costs on the machine that the study was profiled on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kdbench.records.profiles import TEACHER, WEIGHTS, ProfiledNetwork
from kdbench.report.data.report_data import ReportData
from kdbench.report.leaderboard import Leaderboard
from kdbench.report.pareto import on_front
from kdbench.report.rows import primary_lines

MEGABYTE = 1e6

Row = Mapping[Any, Any]


@dataclass(frozen=True)
class Deployable:
    """A network, and the rows of the leaderboard's table that stand for the methods which train
    it, best first; none where no run was scored on test, as those of assistants are not.

    `methods` are the best of them: the first, and those that the leaderboard does not tell apart
    from the best of all.
    """

    network: ProfiledNetwork
    rows: tuple[Row, ...]
    methods: tuple[str, ...]

    @property
    def milliseconds(self) -> float:
        """The latency of one image."""
        return 1000 * self.network.timing(1).median

    @property
    def megabytes(self) -> float:
        """The size on disk of the weights alone."""
        return self.network.sizes[WEIGHTS] / MEGABYTE


def deployable_networks(board: Leaderboard, data: ReportData) -> list[Deployable]:
    """The profiled networks, the fastest first; none where the study was not profiled."""
    score = board.measure.column
    teachers = board.table[board.table["row"] == TEACHER]
    lines = pd.concat([primary_lines(board.table), teachers]).dropna(subset=[score])
    rows = lines.sort_values(score, ascending=False, kind="stable").to_dict("records")
    found = []
    for network in data.profile.networks if data.profile else ():
        own = [row for row in rows if (row["method"], row["row"]) in network.rows]
        methods = tuple(row["method"] for row in own if row["best"] or row is own[0])
        if network.role == TEACHER:
            trained = data.runs.loc[data.runs["row"] == TEACHER, "method"]
            methods = tuple(trained.dropna().unique())
        found.append(Deployable(network, tuple(own), methods))
    return sorted(found, key=lambda item: (item.milliseconds, item.network.name))


def deployment_table(board: Leaderboard, networks: Sequence[Deployable]) -> pd.DataFrame:
    """The networks with all digits, in their order."""
    fast = _front(board, networks, "milliseconds")
    small = _front(board, networks, "megabytes")
    rows = [
        _values(board, item) | {"latency front": item in fast, "size front": item in small}
        for item in networks
    ]
    return pd.DataFrame(rows)


def _front(board: Leaderboard, networks: Sequence[Deployable], cost: str) -> list[Deployable]:
    """The networks of which no other scores as high at as little cost."""
    scored = [item for item in networks if item.rows]
    points = [(getattr(item, cost), item.rows[0][board.measure.column]) for item in scored]
    return [item for item, strong in zip(scored, on_front(points), strict=True) if strong]


def _values(board: Leaderboard, item: Deployable) -> dict[str, Any]:
    network, best = item.network, item.rows[0] if item.rows else {}
    estimates = [
        f"{name}{part}"
        for name in (board.measure.column, "difference")
        for part in ("", "_low", "_high")
    ]
    values = {
        "network": network.name,
        "role": network.role,
        "trained with": ", ".join(item.methods),
        **{name: best.get(name, math.nan) for name in estimates},
        "parameters": network.parameters,
        "macs": network.macs,
        **{f"{name} bytes": size for name, size in network.sizes.items()},
    }
    for t in network.timings:
        values |= {
            latency(t.batch): 1000 * t.median,
            latency(t.batch, "first quartile"): 1000 * t.low,
            latency(t.batch, "third quartile"): 1000 * t.high,
            throughput(t.batch): t.batch / t.median,
            memory(t.batch): t.peak_bytes / MEGABYTE,
        }
    return values


def latency(batch: int, quartile: str = "") -> str:
    """The column of the time for a batch, its median or a quartile."""
    return f"latency at batch {batch} in ms{quartile and f', {quartile}'} (measured)"


def throughput(batch: int) -> str:
    """The column of images a second."""
    return f"images a second at batch {batch} (measured)"


def memory(batch: int) -> str:
    """The column of peak memory."""
    return f"peak memory at batch {batch} in MB (measured)"
