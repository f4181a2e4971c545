"""The one loop. It trains a cohort: runs of one setting and one seed, in lockstep.

All members see the same batches; every frozen network is asked once a batch. Nothing
else is shared: each member has its own networks, optimiser and random streams, so its
numbers do not depend on its company. The loop knows roles and sources, never a
method's name.
"""

import copy
import io
import math
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kdbench import models, seeds
from kdbench.data import TrainingData, Views, split
from kdbench.frozen import FrozenNetwork, tabled
from kdbench.methods.base import Method
from kdbench.networks import Average, Frozen, Snapshot, Trained
from kdbench.optim import lr_at, make_optimizer
from kdbench.run import RunSpec
from kdbench.store import Store
from kdbench.types import Batch, Output, Progress, Shapes

#: Seconds between two checkpoints of a run on disk; a clean stop always keeps the last epoch.
CHECKPOINT_EVERY = 5.0
#: Images a forward of an evaluation.
EVALUATION_BATCH = 250


@dataclass(frozen=True)
class Job:
    """A run to train: its spec, its method, the taps the method reads, and where it stopped."""

    spec: RunSpec
    method: Method
    taps: tuple[str, ...]
    checkpoint: bytes | None = None


@dataclass(frozen=True)
class Epochs:
    """Epochs that a run has finished, and its state after the last of them."""

    id: str
    rows: list[dict[str, Any]]
    checkpoint: bytes | None


@dataclass(frozen=True)
class Finished:
    """A run has ended (`done` or `diverged`); weights as safetensors bytes."""

    id: str
    result: dict[str, Any]
    weights: bytes | None


@dataclass(frozen=True)
class Failed:
    """A run's method raised; its mates went on."""

    id: str
    error: dict[str, Any]


T = TypeVar("T")
Event = Epochs | Finished | Failed


@dataclass
class Bench:
    """Where cohorts run: the store, the training images, a device, and the frozen
    networks that have been loaded so far."""

    store: Store
    data: TrainingData
    device: torch.device
    _views: dict[str, Views] = field(default_factory=dict)
    _frozen: dict[tuple[str, str, str], FrozenNetwork] = field(default_factory=dict)

    def views(self, augment: str) -> Views:
        """The training images on the device under an augmentation."""
        if augment not in self._views:
            self._views[augment] = Views(self.data, augment, self.device)
        return self._views[augment]

    def frozen(self, run_id: str, which: str, augment: str) -> FrozenNetwork:
        """A finished run's student as a source of outputs."""
        key = (run_id, which, augment)
        if key not in self._frozen:
            self._frozen[key] = FrozenNetwork(
                self.store, run_id, which, self.data, self.views(augment)
            )
        return self._frozen[key]


class CohortBatch:
    """One batch, shared: images by view, and the frozen outputs as somebody asks for them."""

    def __init__(
        self,
        views: Views,
        position: Tensor,
        view_ids: Sequence[Tensor],
        asked: Mapping[int, Sequence[str]],
    ) -> None:
        self.views = views
        self.position = position
        self.view_ids = view_ids
        self.asked = asked
        self.labels = views.labels[position]
        self._images: dict[int, Tensor] = {}
        self._live: dict[int, Output] = {}

    def again(self) -> "CohortBatch":
        """The same batch, with nothing computed yet."""
        return CohortBatch(self.views, self.position, self.view_ids, self.asked)

    def release(self) -> None:
        """Let go of what was computed: an epoch's images together would fill the memory."""
        self._images.clear()
        self._live.clear()

    def images(self, view: int) -> Tensor:
        """batch x channels x height x width, normalised."""
        if view not in self._images:
            self._images[view] = self.views.take(self.position, self.view_ids[view])
        return self._images[view]

    def live(self, network: FrozenNetwork) -> Output:
        """The frozen network's outputs on view 0, with every tap that a member asked for:
        one forward a batch for the whole cohort."""
        if id(network) not in self._live:
            taps = self.asked[id(network)]
            self._live[id(network)] = network.live(self.images(0), taps)
        return self._live[id(network)]


class Member:
    """One run in training: its networks, helpers and optimiser, and what it has measured."""

    def __init__(self, job: Job, bench: Bench) -> None:
        self.job = job
        self.spec = job.spec
        self.method = job.method
        self.bench = bench
        self.rows: list[dict[str, Any]] = []
        self.epoch = 0
        self.best: dict[str, Any] = {}
        self.seconds = 0.0
        self._emitted = time.monotonic()
        self._build()
        if job.checkpoint is not None:
            self._restore(job.checkpoint)

    # -- building

    def _build(self) -> None:
        spec, data, device = self.spec, self.bench.data, self.bench.device
        self.sources = self.method.networks()
        self.trained: dict[str, nn.Module] = {}
        for role, source in self.sources.items():
            if isinstance(source, Trained):
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(seeds.integers(seeds.stream(spec, "weights", role), 1)[0])
                    network = models.build(spec.models[source.slot], data.shape, data.classes)
                self.trained[role] = models.to_device(network, device)
        self.followers: dict[str, Any] = {}
        for role, source in self.sources.items():
            if isinstance(source, Snapshot):
                self.followers[role] = copy.deepcopy(self.trained[source.of])
            elif isinstance(source, Average):
                self.followers[role] = AveragedModel(
                    self.trained[source.of],
                    multi_avg_fn=get_ema_multi_avg_fn(source.decay),
                    use_buffers=True,
                )
        for network in self.followers.values():
            network.eval().requires_grad_(False)
        self.frozen: dict[str, tuple[FrozenNetwork, bool]] = {}
        shapes: dict[str, dict[str, tuple[int, ...]]] = {}
        for role, source in self.sources.items():
            if isinstance(source, Frozen):
                teacher = self.bench.frozen(spec.frozen[role], spec.weights, spec.data.augment)
                shapes[role] = {t: teacher.shapes[t] for t in self.job.taps}
                self.frozen[role] = (teacher, tabled(spec, len(data.labels), shapes[role]))
            else:
                of = role if isinstance(source, Trained) else source.of
                slot = self.sources[of].slot  # type: ignore[union-attr]
                known = models.taps_of(spec.models[slot], data.shape, data.classes)
                shapes[role] = {t: known[t] for t in self.job.taps}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds.integers(seeds.stream(spec, "weights", "helpers"), 1)[0])
            made = self.method.helpers(Shapes(data.classes, len(data.labels), shapes))
        self.helpers = made.to(device)
        self.tapped = {
            role: models.tapped(_inner(network), self.job.taps)
            for role, network in (self.trained | self.followers).items()
        }
        for role in self.followers:
            self.tapped[role].eval()
        trainable = [p for m in (*self.trained.values(), self.helpers) for p in m.parameters()]
        self.optimizer = make_optimizer(spec.recipe, trainable)

    # -- one epoch

    def begin_epoch(self, steps: int) -> None:
        """Start this epoch's streams, meters and learning rate."""
        spec, device = self.spec, self.bench.device
        self._started = time.perf_counter()
        self._steps = steps
        self._step = 0
        self._dropout = {
            role: seeds.integers(seeds.stream(spec, "dropout", role, self.epoch), steps)
            for role in self.trained
        }
        self._generator = seeds.torch_generator(
            seeds.stream(spec, "method", epoch=self.epoch), device
        )
        self._sums: dict[str, Tensor] = {}
        self._correct = torch.zeros((), device=device, dtype=torch.int64)
        self._seen = 0
        self.lr = lr_at(spec.recipe, self.epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        for role, network in self.trained.items():
            network.train()
            self.tapped[role].train()
        self.helpers.train()

    def step(self, batch: CohortBatch) -> None:
        """Forward every network, one backward, one optimiser step; nothing is read back."""
        recipe = self.spec.recipe
        amp = torch.autocast(
            self.bench.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"
        )
        out: dict[str, Output] = {}
        for role in self.sources:
            images = batch.images(self.method.views.get(role, 0))
            if role in self.frozen:
                out[role] = self._frozen_output(role, batch)
            elif role in self.trained:
                # Seeded for this network and step alone: no mate's dropout can move it.
                torch.manual_seed(self._dropout[role][self._step])
                with amp:
                    out[role] = _float(self.tapped[role](images))
            else:
                with amp, torch.no_grad():
                    out[role] = _float(self.tapped[role](images))
        epochs = recipe.epochs
        done = self.epoch + self._step / self._steps
        progress = Progress(self.epoch / epochs, (self.epoch + 1) / epochs, done / epochs)
        seen = Batch(batch.images(0), batch.labels, batch.position, self._generator)
        terms = self.method.loss(out, seen, self.helpers, progress)
        total = torch.stack(list(terms.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        for role, source in self.sources.items():
            if isinstance(source, Average):
                self.followers[role].update_parameters(self.trained[source.of])
        self._measure(out["student"].logits.detach(), batch.labels, total.detach(), terms)
        self._step += 1

    def _frozen_output(self, role: str, batch: CohortBatch) -> Output:
        network, from_table = self.frozen[role]
        if from_table:
            return network.table(batch.position, self.job.taps)
        return batch.live(network)

    def _measure(
        self, logits: Tensor, labels: Tensor, total: Tensor, terms: Mapping[str, Tensor]
    ) -> None:
        count = len(labels)
        for name, value in (("", total), *terms.items()):
            value = value.detach() * count
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._correct += (logits.argmax(1) == labels).sum()
        self._seen += count

    def end_epoch(self, held_out: Tensor) -> bool:
        """Close the epoch: Snapshots, measurements, the best weights so far.

        Returns whether the run is still sound; false says that its loss is not finite.
        """
        for role, source in self.sources.items():
            if isinstance(source, Snapshot):
                self.followers[role].load_state_dict(self.trained[source.of].state_dict())
        self.epoch += 1
        sums = {name: float(value) / self._seen for name, value in self._sums.items()}
        row: dict[str, Any] = {"epoch": self.epoch, "lr": self.lr}
        row |= {f"train.loss.{n}" if n else "train.loss": value for n, value in sums.items()}
        row["train.accuracy"] = float(self._correct) / self._seen
        sound = all(math.isfinite(v) for v in sums.values())
        if len(held_out):
            row |= self._validate(held_out)
            self._keep_best(row)
        spent = time.perf_counter() - self._started
        row["seconds"] = spent
        self.seconds += spent
        self.rows.append({k: v for k, v in row.items() if math.isfinite(v)})
        return sound

    def _validate(self, held_out: Tensor) -> dict[str, float]:
        network = self.tapped["student"].eval()
        plain = self.bench.views("none")
        correct, nll = 0, 0.0
        with torch.no_grad():
            for position in held_out.split(EVALUATION_BATCH):
                logits = network(plain.take(position)).logits
                labels = plain.labels[position]
                correct += int((logits.argmax(1) == labels).sum())
                nll += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
        return {"val.accuracy": correct / len(held_out), "val.nll": nll / len(held_out)}

    def _keep_best(self, row: Mapping[str, Any]) -> None:
        """Best by validation accuracy, ties by validation NLL, then the earlier epoch."""
        score = (row["val.accuracy"], -row["val.nll"])
        if not self.best or score > self.best["score"]:
            weights = copy.deepcopy(self.trained["student"].state_dict())
            self.best = {"score": score, "epoch": self.epoch, "weights": weights}

    # -- stopping and going on

    def checkpoint(self) -> bytes:
        """All that the run needs to go on from the end of its last epoch."""
        state = {
            "epoch": self.epoch,
            "seconds": self.seconds,
            "trained": {r: n.state_dict() for r, n in self.trained.items()},
            "followers": {r: n.state_dict() for r, n in self.followers.items()},
            "helpers": self.helpers.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        return buffer.getvalue()

    def _restore(self, content: bytes) -> None:
        state = torch.load(io.BytesIO(content), map_location=self.bench.device, weights_only=True)
        for role, network in self.trained.items():
            network.load_state_dict(state["trained"][role])
        for role, network in self.followers.items():
            network.load_state_dict(state["followers"][role])
        self.helpers.load_state_dict(state["helpers"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.seconds, self.best = state["epoch"], state["seconds"], state["best"]

    def epochs_event(self, checkpoint: bytes | None) -> Epochs:
        """The epochs that have not been said yet."""
        event = Epochs(self.spec.id, self.rows, checkpoint)
        self.rows, self._emitted = [], time.monotonic()
        return event

    def due(self) -> bool:
        """Whether the last checkpoint on disk is old enough for a new one."""
        return time.monotonic() - self._emitted >= CHECKPOINT_EVERY

    def finished(self, state: str) -> Finished:
        """The run's result: `state` is `done` or `diverged`."""
        last = self.rows[-1]
        scored = {k: last[k] for k in ("val.accuracy", "val.nll") if k in last}
        best: dict[str, Any] = {}
        if self.best:
            accuracy, minus_nll = self.best["score"]
            best = {"epoch": self.best["epoch"]}
            best |= {"val.accuracy": accuracy, "val.nll": -minus_nll}
        tensors = {f"last/{k}": v for k, v in self.trained["student"].state_dict().items()}
        if self.best:
            tensors |= {f"best/{k}": v for k, v in self.best["weights"].items()}
        student, data = self.trained["student"], self.bench.data
        result = {
            "id": self.spec.id,
            "state": state,
            "epochs": self.epoch,
            "diverged_epoch": self.epoch if state == "diverged" else None,
            "last": scored,
            "best": best,
            "weights": self.method.weights(),
            "parameters": sum(p.numel() for g in self.optimizer.param_groups for p in g["params"]),
            "student_parameters": sum(p.numel() for p in student.parameters()),
            "macs": models.macs(self.spec.models["student"], data.shape, data.classes),
            "seconds": self.seconds,
        }
        content = save_tensors({k: v.cpu().contiguous() for k, v in tensors.items()})
        return Finished(self.spec.id, result, content if state == "done" else None)


def train_cohort(
    jobs: Sequence[Job],
    bench: Bench,
    emit: Callable[[Event], None],
    stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Train runs that share data, student model, recipe, seed, lineage and epochs done.

    Says what happens through `emit`. When `stopping` turns true the step is finished,
    every member's last whole epoch is said with its checkpoint, and the cohort ends.
    """
    members: list[Member] = []
    for job in jobs:
        _guarded(job.spec.id, emit, lambda each: members.append(Member(each, bench)), job)
    if not members:
        return
    spec = members[0].spec
    fit, held_out = training_positions(spec, bench)
    kept = {m.spec.id: m.checkpoint() if m.epoch else None for m in members}
    for epoch in range(members[0].epoch, spec.recipe.epochs):
        if not members:
            return
        batches = epoch_batches(bench, fit, epoch, members)
        for member in members:
            member.begin_epoch(len(batches))
        for batch in batches:
            if stopping():
                for member in members:
                    emit(member.epochs_event(kept[member.spec.id]))
                return
            members = [m for m in members if _guarded(m.spec.id, emit, m.step, batch)]
            batch.release()
        sound = []
        for member in members:
            if not member.end_epoch(held_out):
                end = member.finished("diverged")
                emit(member.epochs_event(None))
                emit(end)
                continue
            kept[member.spec.id] = member.checkpoint()
            if member.due() and member.epoch < spec.recipe.epochs:
                emit(member.epochs_event(kept[member.spec.id]))
            sound.append(member)
        members = sound
    for member in members:
        end = member.finished("done")
        emit(member.epochs_event(None))
        emit(end)


def training_positions(spec: RunSpec, bench: Bench) -> tuple[Tensor, Tensor]:
    """What a run trains on and what it is validated on, as positions in the training file."""
    fit, held_out = split(bench.data.labels, spec.data.validation, spec.data.split_seed)
    if spec.data.train_on == "all":
        fit, held_out = torch.arange(len(bench.data.labels)), held_out[:0]
    return fit.to(bench.device), held_out.to(bench.device)


def epoch_batches(
    bench: Bench, fit: Tensor, epoch: int, members: Sequence[Member]
) -> list[CohortBatch]:
    """The batches of an epoch, the same for every method of this setting and seed.

    The last batch is as large as what is left; one single example is left out, since
    batch normalisation and relations need two.
    """
    spec = members[0].spec
    views = bench.views(spec.data.augment)
    order = seeds.stream(spec, "order", epoch=epoch).permutation(len(fit))
    positions = fit[torch.from_numpy(order).to(fit.device)]
    looks = 1 + max((v for m in members for v in m.method.views.values()), default=0)
    drawn = [
        views.draw(len(fit), seeds.stream(spec, f"views{k}", epoch=epoch)) for k in range(looks)
    ]
    asked: dict[int, tuple[str, ...]] = {}
    for member in members:
        for network, from_table in member.frozen.values():
            if not from_table:
                known = asked.get(id(network), ())
                asked[id(network)] = tuple(sorted({*known, *member.job.taps}))
    size = spec.recipe.batch
    return [
        CohortBatch(views, part, [ids[start : start + size] for ids in drawn], asked)
        for start in range(0, len(positions), size)
        if len(part := positions[start : start + size]) > 1
    ]


def _float(out: Output) -> Output:
    return Output(out.logits.float(), {k: v.float() for k, v in out.taps.items()})


def _inner(network: nn.Module) -> nn.Module:
    return network.module if isinstance(network, AveragedModel) else network


def _guarded(
    run_id: str, emit: Callable[[Event], None], act: Callable[[T], object], what: T
) -> bool:
    """Whether `act(what)` went well; if not, the run `run_id` has failed, and only that run."""
    try:
        act(what)
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        emit(Failed(run_id, {"message": f"{type(error).__name__}: {error}", "traceback": text}))
        return False
    return True
