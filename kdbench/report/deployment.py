"""What one would deploy: each network of a study once, the methods that train it best, and what
it costs on the machine that the study was profiled on."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kdbench.records.profiles import ASSISTANT, TEACHER, WEIGHTS, Profile, ProfiledNetwork
from kdbench.report.data.report_data import ReportData
from kdbench.report.leaderboard import Leaderboard
from kdbench.report.pareto import on_front
from kdbench.report.rows import primary_lines

MEGABYTE = 1e6
#: The order of the formats, the simplest first.
FORMATS = (WEIGHTS, "torch", "onnx", "int8")

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


@dataclass(frozen=True)
class Deployment:
    """What the table and the figures are made from: the networks, the fastest first, and the
    `profile` that says where they were measured (its networks are those of one study).

    `column` is that of the score in their rows, `words` and `score` what it is called; `unknown`
    are the methods of which no network was measured.
    """

    name: str
    title: str
    profile: Profile
    networks: tuple[Deployable, ...]
    column: str
    words: str
    score: str
    reference: str
    level: float
    unknown: tuple[str, ...]

    @property
    def formats(self) -> list[str]:
        """The formats in which the size of any network is known."""
        known = {name for item in self.networks for name in item.network.sizes}
        return [name for name in FORMATS if name in known]


def deployment_of(board: Leaderboard, data: ReportData) -> Deployment | None:
    """What one would deploy of a study; None where its networks were not profiled."""
    return _deployment(board.study, board.title, [(board, data)])


def pooled_deployment(
    name: str, boards: Mapping[str, Leaderboard], settings: Mapping[str, ReportData]
) -> Deployment | None:
    """What one would deploy of several studies; None unless `profiled_together`."""
    parts = [(boards[setting], data) for setting, data in settings.items()]
    return _deployment(name, name, parts) if profiled_together(settings.values()) else None


def profiled_together(settings: Iterable[ReportData]) -> bool:
    """Whether studies have the same data and were profiled together, so that their networks can
    be compared."""
    settings = list(settings)
    profiles = [data.profile for data in settings]
    together = {(p.machine, p.device, p.threads, p.date) if p else None for p in profiles}
    same = {data.plan.data.checksum if data.plan.data else None for data in settings}
    return None not in together and len(together) == len(same) == 1


def profile_outdated(data: ReportData) -> bool:
    """Whether a study was changed after its networks were profiled: one of them is of another
    model than the study's, or has a size that no run of one of its rows has."""
    columns = ["label", "row", "student_parameters", "macs"]
    sizes: dict[tuple[str, str], set[tuple[int, int]]] = {}
    for label, row, *size in data.runs[columns].dropna().itertuples(index=False, name=None):
        sizes.setdefault((label, row), set()).add((int(size[0]), int(size[1])))
    for network in data.profile.networks if data.profile else ():
        if network.role == ASSISTANT:  # reports do not have the runs of assistants
            continue
        model = data.plan.models.get(network.role, network.name)
        other = network.name != model and not network.name.startswith(f"{model} + ")
        own = network.parameters, network.macs
        if other or any(own not in sizes.get(row, {own}) for row in network.rows):
            return True
    return False


def outdated_note(name: str) -> str:
    """What is said in place of what one would deploy where a profile is outdated."""
    return (
        "The profile of the networks is left out, since they were others when it was measured: "
        f"`kdbench profile {name}` measures again."
    )


def _deployment(
    name: str, title: str, parts: Sequence[tuple[Leaderboard, ReportData]]
) -> Deployment | None:
    board, data = parts[0]
    if data.profile is None or any(profile_outdated(data) for _, data in parts):
        return None
    networks: dict[tuple[str, str, int, int], Deployable] = {}
    for item in (item for part in parts for item in _networks(*part)):
        network = item.network
        networks[network.name, network.role, network.parameters, network.macs] = item
    return Deployment(
        name,
        title,
        data.profile,
        tuple(sorted(networks.values(), key=lambda item: (item.milliseconds, item.network.name))),
        board.measure.column,
        board.measure.words,
        board.score,
        board.reference,
        board.family.analysis.level,
        tuple(dict.fromkeys(label for part in parts for label in _unknown(*part))),
    )


def _networks(board: Leaderboard, data: ReportData) -> Iterator[Deployable]:
    score = board.measure.column
    teachers = board.table[board.table["row"] == TEACHER]
    lines = pd.concat([primary_lines(board.table), teachers]).dropna(subset=[score])
    rows = lines.sort_values(score, ascending=False, kind="stable").to_dict("records")
    for network in data.profile.networks if data.profile else ():
        own = [row for row in rows if (row["method"], row["row"]) in network.rows]
        methods = tuple(row["method"] for row in own if row["best"] or row is own[0])
        if network.role == TEACHER:
            trained = data.runs.loc[data.runs["row"] == TEACHER, "method"]
            methods = tuple(trained.dropna().unique())
        yield Deployable(network, tuple(own), methods)


def _unknown(board: Leaderboard, data: ReportData) -> Iterator[str]:
    networks = data.profile.networks if data.profile else ()
    profiled = {row for network in networks for row in network.rows}
    for row in primary_lines(board.table).to_dict("records"):
        if row["n"] > 0 and (row["method"], row["row"]) not in profiled:
            yield row["method"]


def deployment_table(deployment: Deployment) -> pd.DataFrame:
    """The networks with all digits, in their order."""
    fast, small = (_front(deployment, cost) for cost in ("milliseconds", "megabytes"))
    rows = [
        _values(deployment, item) | {"latency front": item in fast, "size front": item in small}
        for item in deployment.networks
    ]
    return pd.DataFrame(rows)


def _front(deployment: Deployment, cost: str) -> list[Deployable]:
    """The networks of which no other scores as high at as little cost."""
    scored = [item for item in deployment.networks if item.rows]
    points = [(getattr(item, cost), item.rows[0][deployment.column]) for item in scored]
    return [item for item, strong in zip(scored, on_front(points), strict=True) if strong]


def _values(deployment: Deployment, item: Deployable) -> dict[str, Any]:
    network, best = item.network, item.rows[0] if item.rows else {}
    estimates = [
        f"{name}{part}"
        for name in (deployment.column, "difference")
        for part in ("", "_low", "_high")
    ]
    values = {
        "network": network.name,
        "role": network.role,
        "trained with": ", ".join(item.methods),
        **{name: best.get(name, math.nan) for name in estimates},
        "parameters": network.parameters,
        "macs": network.macs,
        **{f"{name} bytes": network.sizes.get(name) for name in deployment.formats},
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
