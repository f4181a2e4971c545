"""Which networks the runs of a study made, each once."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from kdbench import models
from kdbench.data import TrainingData
from kdbench.errors import KdbenchError
from kdbench.records.plan_file import PlanData, PlanFile
from kdbench.records.profiles import ASSISTANT, STUDENT, TEACHER
from kdbench.records.spec import RunSpec
from kdbench.records.store import Store
from kdbench.training.teachers import HEAD, load_student


class NothingToProfile(KdbenchError):
    """A study has no network that could be measured."""


@dataclass(frozen=True)
class FoundNetwork:
    """A network of a study: the spec of one run that made it, and the leaderboard's rows that
    did."""

    spec: RunSpec
    name: str
    role: str
    rows: tuple[tuple[str, str], ...]
    parameters: int
    macs: int

    @property
    def run(self) -> str:
        """The id of the run."""
        return self.spec.id

    @property
    def size(self) -> tuple[str, int, int]:
        """What two networks have in common that cost the same."""
        return self.name, self.parameters, self.macs


def find_networks(store: Store, plan: PlanFile) -> list[FoundNetwork]:
    """The networks of the finished runs: teachers, then assistants (networks that a method needs
    first, of another model than any student), then students. Runs made the same network if they
    play the same role with the same model, and neither or both answer through a head of the same
    method and size. Raises `NothingToProfile`."""
    found: dict[tuple[Any, ...], FoundNetwork] = {}
    for role, row, run in _runs(plan):
        result, spec = store.record(run).result, store.record(run).spec()
        if spec is None or result is None or result["state"] != "done":
            continue
        model = spec.models["student"]
        name = f"{model} + {spec.method} head" if _has_head(store, run) else model
        size = result["student_parameters"], result["macs"]
        key = (role, name, *size)
        rows = found[key].rows if key in found else ()
        if row and row not in rows:
            rows = (*rows, row)
        first = found[key].spec if key in found else spec
        found[key] = FoundNetwork(first, name, role, rows, *size)
    of_rows = {network.name for network in found.values() if network.role != ASSISTANT}
    networks = [n for n in found.values() if n.role != ASSISTANT or n.name not in of_rows]
    if not any(network.role == STUDENT for network in networks):
        raise NothingToProfile(
            f"study '{plan.study}' has no finished run yet: `kdbench study {plan.study}` trains "
            "them, and `kdbench status` shows how far it is"
        )
    return networks


def _runs(plan: PlanFile) -> Iterator[tuple[str, tuple[str, str] | None, str]]:
    """Role, row and id of every run."""
    for run in dict.fromkeys(plan.teachers.values()):
        yield TEACHER, (TEACHER, TEACHER), run
    for run, listed in plan.listing.items():
        if listed.kind == "stage":
            yield ASSISTANT, None, run
    for row in plan.rows:
        for run in row.runs.values():
            yield STUDENT, (row.label, row.row), run


def _has_head(store: Store, run: str) -> bool:
    """Whether a method's head answers for the student of a finished run."""
    with safe_open(store.record(run).path("weights.safetensors"), framework="numpy") as tensors:
        return any(name.startswith(f"last/{HEAD}") for name in tensors.keys())  # noqa: SIM118


def load_network(store: Store, plan: PlanFile, run: str, device: torch.device) -> nn.Module:
    """The network of a finished run on a device. Reads no image. Raises as `plan_data` and
    `load_student` do."""
    part = plan_data(plan)
    channels = part.shape[0]
    data = TrainingData(
        part.name,
        torch.empty(0, *part.shape, dtype=torch.uint8),
        torch.empty(part.images, dtype=torch.int64),
        part.classes,
        255,
        (0.0,) * channels,
        (1.0,) * channels,
        part.checksum,
    )
    result = store.record(run).result or {}
    which = plan.selection if result.get("best") else "last"
    return models.to_device(load_student(store, run, which, data), device)


def plan_data(plan: PlanFile) -> PlanData:
    """The data of a study. Raises `NothingToProfile` where its plan does not describe them."""
    if plan.data is None or not plan.data.shape:
        raise NothingToProfile(
            f"the plan of study '{plan.study}' is of an earlier version of kdbench and does not "
            f"say how large its images are: `kdbench study {plan.study}` writes it anew"
        )
    return plan.data
