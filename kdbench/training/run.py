"""One run in training. It knows roles and sources, never a method's name."""

import copy
import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kdbench import models
from kdbench.data import VIEWS
from kdbench.methods.base import Method
from kdbench.methods.networks import Average, Frozen, Snapshot, Trained
from kdbench.methods.types import Batch, Shapes
from kdbench.models.output import Output
from kdbench.records.spec import uses_cache
from kdbench.training import seeds
from kdbench.training.batches import SharedBatch
from kdbench.training.context import TrainingContext, TrainingJob
from kdbench.training.cuda_graphs.tensor_params import in_tensors
from kdbench.training.events import Epochs, Finished
from kdbench.training.networks import _inner
from kdbench.training.optim import _parameters, load_state, lr_at, make_optimizer, set_lr
from kdbench.training.state import CHECKPOINT_EVERY
from kdbench.training.teachers import TeacherNetwork

#: Images a forward of an evaluation.
EVALUATION_BATCH = 250


class TrainingRun:
    """One run in training: its networks, helpers and optimiser, and what it has measured."""

    def __init__(self, job: TrainingJob, bench: TrainingContext) -> None:
        self.job = job
        self.spec = job.spec
        self.method = job.method
        self.bench = bench
        self.rows: list[dict[str, Any]] = []
        self.epoch = 0
        self.sound = True
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
        self.teachers: dict[str, tuple[TeacherNetwork, bool]] = {}
        shapes: dict[str, dict[str, tuple[int, ...]]] = {}
        for role, source in self.sources.items():
            if isinstance(source, Frozen):
                teacher = self.bench.teacher(spec, role)
                shapes[role] = {t: teacher.shapes[t] for t in self.job.layers}
                self.teachers[role] = (
                    teacher,
                    uses_cache(spec, len(data.labels), VIEWS[spec.data.augment], shapes[role]),
                )
            else:
                of = role if isinstance(source, Trained) else source.of
                slot = self.sources[of].slot  # type: ignore[union-attr]
                known = models.feature_shapes(spec.models[slot], data.shape, data.classes)
                shapes[role] = {t: known[t] for t in self.job.layers}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds.integers(seeds.stream(spec, "weights", "helpers"), 1)[0])
            self._shapes = Shapes(data.classes, len(data.labels), shapes)
            made = self.method.helpers(self._shapes)
        self.helpers = made.to(device)
        self.with_features = {
            role: models.with_features(_inner(network), self.job.layers)
            for role, network in (self.trained | self.followers).items()
        }
        for role in self.followers:
            self.with_features[role].eval()
        trainable = [p for m in (*self.trained.values(), self.helpers) for p in m.parameters()]
        self.optimizer = make_optimizer(spec.recipe, trainable, device)
        self.read_hparams_from_numbers()
        # These stay where they are from epoch to epoch, for steps that were recorded.
        self.generator = torch.Generator(device)
        self._sums: dict[str, Tensor] = {}
        self._correct = torch.zeros((), device=device, dtype=torch.int64)

    def read_hparams_from_numbers(self) -> None:
        """Have the loss read every hyperparameter as the number that it is."""
        self._loss_of: Method = self.method
        self.hparams: dict[str, Tensor] = {}

    def read_hparams_from_tensors(self) -> None:
        """Have the loss read what tuning moves from `hparams`, 0-d tensors on the device, for
        steps that are recorded."""
        self._loss_of, self.hparams = in_tensors(self.method, self._shapes, self.bench.device)

    def check_hparams(self) -> None:
        """Raise `TypeError` where the loss has kept something made of hyperparameters in tensors."""
        if kept := vars(self._loss_of).keys() - vars(self.method).keys():
            raise TypeError(f"keeps {', '.join(sorted(kept))}, made of hyperparameters")

    # -- one epoch

    def prepare(self, stopping: Callable[[], bool]) -> None:
        """Have the tables that this run reads filled, and look into them."""
        for role, (network, from_table) in self.teachers.items():
            if from_table:
                also = self.bench.read.get(self.spec.frozen_runs[role], ())
                network.prepare(self.job.layers, also, stopping)

    def begin_epoch(self, steps: int) -> None:
        """Start this epoch's streams, meters and learning rate."""
        spec = self.spec
        self._started = time.perf_counter()
        self._step = 0
        self._dropout = {
            role: seeds.integers(seeds.stream(spec, "dropout", role, self.epoch), steps)
            for role in self.trained
        }
        seeds.seed_torch(self.generator, seeds.stream(spec, "method", epoch=self.epoch))
        for value in (self._correct, *self._sums.values()):
            value.zero_()
        self._seen = 0
        self.lr = lr_at(spec.recipe, self.epoch)
        set_lr(self.optimizer, self.lr)
        for role, network in self.trained.items():
            network.train()
            self.with_features[role].train()
        self.helpers.train()

    def step(self, batch: SharedBatch) -> None:
        """One step of training; nothing is read back from the device."""
        self.seed()
        self.compute(batch)
        self.advance(batch)

    def seed(self) -> None:
        """Seed this step's dropout, so that no mate can move it.

        On a GPU once for all of the run's networks, whose draws follow one another: a
        recorded step cannot be seeded in its midst. On the CPU `compute` seeds each network.
        """
        if self.bench.device.type == "cuda":
            generator = torch.cuda.default_generators[self.bench.device.index or 0]
            generator.manual_seed(self._dropout["student"][self._step])

    def advance(self, batch: SharedBatch) -> None:
        """Count a step that was computed."""
        self._seen += len(batch)
        self._step += 1

    def compute(self, batch: SharedBatch) -> None:
        """Forward every network, one backward, one optimiser step: work on tensors alone,
        which a GPU can record."""
        amp = torch.autocast(
            self.bench.device.type, torch.bfloat16, enabled=self.spec.recipe.precision == "bf16"
        )
        out: dict[str, Output] = {}
        for role in self.sources:
            images = batch.images(self.method.views.get(role, 0))
            if role in self.teachers:
                out[role] = self._frozen_output(role, batch)
            elif role in self.trained:
                if self.bench.device.type == "cpu":
                    # The generator itself: `torch.manual_seed` also notes a call stack for CUDA.
                    torch.default_generator.manual_seed(self._dropout[role][self._step])
                with amp:
                    out[role] = _float(self.with_features[role](images))
            else:
                with amp, torch.no_grad():
                    out[role] = _float(self.with_features[role](images))
        seen = Batch(batch.images(0), batch.labels, batch.position, self.generator)
        terms = self._loss_of.loss(out, seen, self.helpers, batch.progress)
        total = torch.stack(list(terms.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        for role, source in self.sources.items():
            if isinstance(source, Average):
                self.followers[role].update_parameters(self.trained[source.of])
        self._measure(out["student"].logits.detach(), batch.labels, total.detach(), terms)

    def _frozen_output(self, role: str, batch: SharedBatch) -> Output:
        network, from_table = self.teachers[role]
        if from_table:
            return network.table(batch.position, self.job.layers, batch.view_ids[0])
        return batch.live(network)

    def _measure(
        self, logits: Tensor, labels: Tensor, total: Tensor, terms: Mapping[str, Tensor]
    ) -> None:
        count = len(labels)
        for name, value in (("", total), *terms.items()):
            value = value.detach().float() * count
            if name in self._sums:
                self._sums[name] += value
            else:
                self._sums[name] = value
        self._correct += (logits.argmax(1) == labels).sum()

    def tensors(self) -> list[Tensor]:
        """All that a step changes, without gradients."""
        moments = [v for s in self.optimizer.state.values() for v in s.values() if v is not None]
        return [*self._weights(), *moments, self._correct, *self._sums.values()]

    def _weights(self) -> list[Tensor]:
        """Parameters and buffers of all networks and helpers."""
        modules = [*self.trained.values(), *self.followers.values(), self.helpers]
        return [t for m in modules for t in (*m.parameters(), *m.buffers())]

    def move_into(self, other: "TrainingRun") -> None:
        """Go on in the tensors of another run that has ended, with this run's values in them.

        For steps that were recorded with them: what differs between the two is read from
        tensors, as the other's `hparams` are.
        """
        ours, theirs = self.optimizer, other.optimizer
        with torch.no_grad():
            for mine, its in zip(self._weights(), other._weights(), strict=True):
                its.copy_(mine)
            pairs = zip(_parameters(ours), _parameters(theirs), strict=True)
            for mine, its in pairs:
                for name, value in theirs.state[its].items():
                    # Without steps so far there are no moments, which is to say 0.
                    kept = ours.state[mine].get(name) if mine in ours.state else None
                    if value is not None:
                        value.zero_() if kept is None else value.copy_(kept)
        for name, tensor in other.hparams.items():
            tensor.fill_(getattr(self.method, name))
        self._loss_of, self.hparams = other._loss_of, other.hparams
        self.trained, self.followers, self.helpers = other.trained, other.followers, other.helpers
        self.with_features, self.optimizer, self.generator = (
            other.with_features,
            theirs,
            other.generator,
        )
        self._sums, self._correct = other._sums, other._correct

    def end_epoch(self, held_out: Tensor) -> None:
        """Close the epoch: Snapshots, measurements, the best weights so far.

        `sound` turns false where the loss, the validation or the student is not finite.
        """
        for role, source in self.sources.items():
            if isinstance(source, Snapshot):
                self.followers[role].load_state_dict(self.trained[source.of].state_dict())
        self.epoch += 1
        sums = {name: float(value) / self._seen for name, value in self._sums.items()}
        row: dict[str, Any] = {"epoch": self.epoch, "lr": self.lr}
        row |= {f"train.loss.{n}" if n else "train.loss": value for n, value in sums.items()}
        row["train.accuracy"] = float(self._correct) / self._seen
        if len(held_out):
            row |= self._validate(held_out)
        # The weights too: the last step can break them, and no later loss would show it.
        weights = self.trained["student"].state_dict().values()
        finite = torch.stack([tensor.isfinite().all() for tensor in weights]).all()
        self.sound = all(math.isfinite(v) for v in row.values()) and bool(finite)
        if self.sound and len(held_out):
            self._keep_best(row)
        spent = time.perf_counter() - self._started
        row["seconds"] = spent
        self.seconds += spent
        self.rows.append({k: v for k, v in row.items() if math.isfinite(v)})

    def _validate(self, held_out: Tensor) -> dict[str, float]:
        network = self.with_features["student"].eval()
        plain = self.bench.views("none")
        right, losses = [], []
        with torch.no_grad():
            for position in held_out.split(EVALUATION_BATCH):
                logits = network(plain.take(position)).logits
                labels = plain.labels[position]
                right.append((logits.argmax(1) == labels).sum())
                losses.append(nn.functional.cross_entropy(logits, labels, reduction="sum"))
        # Read back together: one wait for the device.
        correct, nll = sum(torch.stack(right).tolist()), sum(torch.stack(losses).tolist())
        return {"val.accuracy": correct / len(held_out), "val.nll": nll / len(held_out)}

    def _keep_best(self, row: Mapping[str, Any]) -> None:
        """Best by validation accuracy, ties by validation NLL, then the earlier epoch."""
        score = (row["val.accuracy"], -row["val.nll"])
        if not self.best or score > self.best["score"]:
            weights = copy.deepcopy(self.trained["student"].state_dict())
            self.best = {"score": score, "epoch": self.epoch, "weights": weights}

    # -- stopping and going on

    def state(self) -> dict[str, Any]:
        """All that the run needs to go on from the end of its last epoch, copied."""
        state = {
            "trained": {r: n.state_dict() for r, n in self.trained.items()},
            "followers": {r: n.state_dict() for r, n in self.followers.items()},
            "helpers": self.helpers.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        # The best weights are a copy already, and replaced, never changed.
        kept = {"epoch": self.epoch, "seconds": self.seconds, "best": self.best}
        return {**copy.deepcopy(state), **kept}

    def _restore(self, content: bytes) -> None:
        state = torch.load(io.BytesIO(content), map_location=self.bench.device, weights_only=True)
        for role, network in self.trained.items():
            network.load_state_dict(state["trained"][role])
        for role, network in self.followers.items():
            network.load_state_dict(state["followers"][role])
        self.helpers.load_state_dict(state["helpers"])
        load_state(self.optimizer, state["optimizer"])
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
            "loss_weights": self.method.loss_weights(),
            "parameters": sum(p.numel() for p in _parameters(self.optimizer)),
            "student_parameters": sum(p.numel() for p in student.parameters()),
            "macs": models.macs(self.spec.models["student"], data.shape, data.classes),
            "seconds": self.seconds,
        }
        content = save_tensors({k: v.cpu().contiguous() for k, v in tensors.items()})
        return Finished(self.spec.id, result, content if state == "done" else None)


def _float(out: Output) -> Output:
    return Output(out.logits.float(), {k: v.float() for k, v in out.features.items()})


def one_by_one(
    batch: SharedBatch, members: Sequence[TrainingRun], guarded: Callable[..., bool]
) -> list[TrainingRun]:
    """One eager step of every member; those for which it went well."""
    left = [m for m in members if guarded(m.spec.id, m.step, batch)]
    batch.release()
    return left
