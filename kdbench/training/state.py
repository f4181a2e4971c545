"""What a run goes on from after a stop, and what it reports: epochs and its result."""

import copy
import io
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import nn

from kdbench import models
from kdbench.data import TrainingData
from kdbench.errors import KdbenchError
from kdbench.records.lineage import LEARNED_FROM
from kdbench.records.measures import MEASURES
from kdbench.training.context import TrainingJob
from kdbench.training.events import Epochs, Finished
from kdbench.training.networks import RunNetworks
from kdbench.training.optim import load_state

#: Seconds between two checkpoints of a run on disk; a clean stop always keeps the last epoch.
CHECKPOINT_EVERY = 5.0


class PackedCheckpoint(KdbenchError):
    """A checkpoint is compressed, so its size does not say how much memory it takes."""

    def __init__(self) -> None:
        super().__init__(
            "the checkpoint is compressed, which kdbench never does: remove checkpoint.pt and "
            "checkpoint.previous.pt from the folder of the run, and it starts from its first epoch"
        )


@dataclass
class History:
    """What a run has measured so far.

    `epoch` counts the finished epochs and `seconds` their time; `best` holds score, epoch and
    student weights of the best validation epoch; `rows` are the epochs that have not been
    reported yet; `finite` is false once the loss, the validation or the student is not.
    """

    epoch: int = 0
    seconds: float = 0.0
    best: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    finite: bool = True
    _reported: float = field(default_factory=time.monotonic)

    def report(self, run_id: str, checkpoint: bytes | None) -> Epochs:
        """The epochs that have not been reported yet, with the state after the last of them."""
        event = Epochs(run_id, self.rows, checkpoint)
        self.rows, self._reported = [], time.monotonic()
        return event

    def forget_after(self, epoch: int) -> None:
        """Drop the epochs after `epoch`, which will be trained again."""
        self.rows = [row for row in self.rows if row["epoch"] <= epoch]

    def checkpoint_due(self) -> bool:
        """Whether the last checkpoint on disk is old enough for a new one."""
        return time.monotonic() - self._reported >= CHECKPOINT_EVERY


def copy_state(
    networks: RunNetworks, optimizer: torch.optim.Optimizer, history: History
) -> dict[str, Any]:
    """All that a run needs to go on from the end of its last epoch, copied."""
    state = {
        "trained": {role: n.state_dict() for role, n in networks.trained.items()},
        "followers": {role: n.state_dict() for role, n in networks.followers.items()},
        "helpers": networks.helpers.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    if networks.ema is not None:
        state["ema"] = networks.ema.mean.state_dict()
    # The best weights are a copy already, and replaced, never changed.
    kept = {"epoch": history.epoch, "seconds": history.seconds, "best": history.best}
    kept[LEARNED_FROM] = networks.learned_from()
    return {**copy.deepcopy(state), **kept}


def restore_state(
    checkpoint: bytes,
    networks: RunNetworks,
    optimizer: torch.optim.Optimizer,
    history: History,
    device: torch.device,
) -> None:
    """Load the bytes of a checkpoint into a run's networks, optimiser and history; nothing of one
    that was made with other weights of a teacher, so that the run starts again.

    Raises `PackedCheckpoint` where they are compressed.
    """
    state = load_checkpoint(checkpoint, device)
    learned_from = networks.learned_from()
    if state.get(LEARNED_FROM, learned_from) != learned_from:
        return
    for role, network in networks.trained.items():
        network.load_state_dict(state["trained"][role])
    for role, network in networks.followers.items():
        network.load_state_dict(state["followers"][role])
    networks.helpers.load_state_dict(state["helpers"])
    if networks.ema is not None:
        networks.ema.mean.load_state_dict(state["ema"])
    load_state(optimizer, state["optimizer"])
    history.epoch, history.seconds = state["epoch"], state["seconds"]
    history.best = state["best"]


def load_checkpoint(checkpoint: bytes, device: torch.device) -> Any:
    """The state that `pack_state` packed. Raises `PackedCheckpoint` where it is compressed."""
    with zipfile.ZipFile(io.BytesIO(checkpoint)) as archive:
        if sum(member.file_size for member in archive.infolist()) > len(checkpoint):
            raise PackedCheckpoint
    return torch.load(io.BytesIO(checkpoint), map_location=device, weights_only=True)


def pack_state(state: Mapping[str, Any]) -> bytes:
    """A run's state as the bytes of a checkpoint."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def finished(
    job: TrainingJob, data: TrainingData, networks: RunNetworks, history: History
) -> Finished:
    """The result of a run that has ended, and its student's last and best weights, those of the
    student's head included."""
    last, measure = history.rows[-1], MEASURES[job.spec.validated_by]
    scores = dict.fromkeys(("val.accuracy", measure.validation, "val.nll"))
    best: dict[str, Any] = {}
    if history.best:
        score, minus_nll = history.best["score"]
        best = {"epoch": history.best["epoch"]}
        best |= {measure.validation: score, "val.nll": -minus_nll}
    parameters, macs = _size(job, data, networks)
    tensors = {f"last/{name}": value for name, value in networks.deployed().items()}
    if history.best:
        tensors |= {f"best/{name}": value for name, value in history.best["weights"].items()}
    result = {
        "id": job.spec.id,
        "state": "done" if history.finite else "diverged",
        "epochs": history.epoch,
        "diverged_epoch": None if history.finite else history.epoch,
        "last": {name: last[name] for name in scores if name in last},
        "best": best,
        "loss_weights": job.method.loss_weights(),
        LEARNED_FROM: networks.learned_from(),
        "parameters": sum(p.numel() for p in networks.trainable()),
        "student_parameters": parameters,
        "macs": macs,
        "seconds": history.seconds,
    }
    content = save_tensors({name: value.cpu().contiguous() for name, value in tensors.items()})
    return Finished(job.spec.id, result, content if history.finite else None)


def _size(job: TrainingJob, data: TrainingData, networks: RunNetworks) -> tuple[int, int]:
    """The parameters and multiply-accumulates of the student as it is used after training."""
    student, head = networks.trained["student"], networks.head
    sizes = (job.spec.models["student"], data.shape, data.classes)
    if head is None:
        return sum(p.numel() for p in student.parameters()), models.macs(*sizes)
    count = sum(p.numel() for p in student.parameters() if p.requires_grad)
    count += sum(p.numel() for p in head.parameters())
    # What a head holds of another network is in its buffers, where running statistics are too.
    norms = nn.modules.batchnorm._NormBase
    for module in head.modules():
        if not isinstance(module, norms):
            count += sum(b.numel() for b in module.buffers(recurse=False))
    return count, models.headed_macs(*sizes, job.layers, head)
