"""One run in training. It knows roles and sources, never a method's name."""

import copy
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdbench.methods.base import Method
from kdbench.methods.image_gradients import with_image_gradient
from kdbench.models.output import Output
from kdbench.records.measures import ACCURACY, MEASURES, measured
from kdbench.training import seeds
from kdbench.training.batches import Input, LiveLayers, SharedBatch, epoch_batches
from kdbench.training.context import TrainingContext, TrainingJob
from kdbench.training.events import Epochs, Finished
from kdbench.training.examples import TrainingExamples
from kdbench.training.networks import build_networks
from kdbench.training.optim import lr_at, make_optimizer, set_lr
from kdbench.training.split_momentum import SplitMomentum
from kdbench.training.state import History, copy_state, finished, restore_state
from kdbench.training.teachers import TeacherNetwork

#: Images a forward of an evaluation.
EVALUATION_BATCH = 250


class TrainingRun:
    """One run in training: its networks, its optimiser, and what it has measured."""

    def __init__(self, job: TrainingJob, context: TrainingContext) -> None:
        self.job, self.spec, self.method = job, job.spec, job.method
        self.context, self.device = context, context.device
        self.measure = MEASURES[self.spec.validated_by]
        self.networks = build_networks(job, context)
        self.optimizer = make_optimizer(
            self.spec.recipe, self.networks.trainable(), self.device, self.method.momentum_shifts()
        )
        self.history = History()
        # These stay where they are from epoch to epoch: a captured step reads and writes them.
        self.generator = torch.Generator(self.device)
        self.loss_sums: dict[str, Tensor] = {}
        self.correct = torch.zeros((), device=self.device, dtype=torch.int64)
        if job.checkpoint is not None:
            restore_state(job.checkpoint, self.networks, self.optimizer, self.history, self.device)

    @property
    def shows_unlabelled(self) -> bool:
        """Whether its batches hold examples without labels."""
        return bool(self.spec.data.labelled) and self.method.unlabelled

    # -- the training step

    def step(self, batch: SharedBatch) -> None:
        """Train on one batch; nothing is read back from the device."""
        self.seed_dropout()
        self.compute(batch)
        self.count(batch)

    def compute(self, batch: SharedBatch) -> None:
        """Forward every network, then loss, backward and optimiser: work on tensors alone,
        which a CUDA graph can capture."""
        outputs = {role: self._forward(role, batch) for role in self.networks.sources}
        data = batch.of_loss(self.generator, self.spec.recipe.label_smoothing)
        terms = self.method.loss(outputs, data, self.networks.helpers, batch.progress)
        loss = torch.stack(list(terms.values())).sum()

        self.optimizer.zero_grad(set_to_none=True)
        if isinstance(self.optimizer, SplitMomentum):
            self.optimizer.backward(terms)
        else:
            loss.backward()
        if self.spec.recipe.clip:
            nn.utils.clip_grad_norm_(self.networks.trainable(), self.spec.recipe.clip)
        self.optimizer.step()
        self.networks.update_averages()

        self._add_to_sums({"": loss, **terms}, len(batch))
        logits = outputs["student"].logits.detach()
        self.correct += (logits.argmax(1) == batch.labels).sum()

    def _forward(self, role: str, batch: SharedBatch) -> Output:
        """What one network of the run answers."""
        score, shown = self.method.image_score(), input_of(self.method, role)
        network: Callable[[Tensor], Output] = partial(self._ask, role)
        if role in self.networks.teachers:
            teacher, cached = self.networks.teachers[role]
            if cached:
                assert isinstance(shown, int), "what no view id names is never cached"
                return teacher.cached(batch.position, self.job.layers, batch.view_ids[shown])
            if score is None:
                return batch.live(teacher, shown)
            # For this run alone: what runs share has no graph.
            network = teacher.network(self.job.layers)
        images = batch.images(shown)
        trained = self.networks.sources[role].gradient
        if score is not None:
            return with_image_gradient(network, images, batch.labels, score, trained)
        with torch.set_grad_enabled(trained):
            return network(images)

    def _ask(self, role: str, images: Tensor) -> Output:
        """The logits and features of a network that is no teacher, in float32."""
        if role in self._dropout and self.device.type == "cpu":
            # The generator itself: `torch.manual_seed` also notes a call stack for CUDA.
            torch.default_generator.manual_seed(self._dropout[role][self._step])
        bf16 = self.spec.recipe.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            output = self.networks.extractors[role](images)
        features = {layer: value.float() for layer, value in output.features.items()}
        return Output(output.logits.float(), features, output.parameters)

    def _add_to_sums(self, terms: Mapping[str, Tensor], images: int) -> None:
        for name, term in terms.items():
            value = term.detach().float() * images
            if name in self.loss_sums:
                self.loss_sums[name] += value
            else:
                self.loss_sums[name] = value

    def seed_dropout(self) -> None:
        """Seed this step's dropout, so that it does not depend on what other runs draw.

        On a GPU once for all of the run's networks, whose draws follow one another: a captured
        step cannot be seeded in its middle. On the CPU `compute` seeds each network.
        """
        if self.device.type == "cuda":
            generator = torch.cuda.default_generators[self.device.index or 0]
            generator.manual_seed(self._dropout["student"][self._step])

    def count(self, batch: SharedBatch) -> None:
        """Count a step that was computed."""
        self._images += len(batch)
        self._labelled += batch.labelled
        self._step += 1

    # -- one epoch

    def prepare(self, stopping: Callable[[], bool]) -> None:
        """Fill and open the cached teacher outputs that this run reads."""
        for role, (teacher, cached) in self.networks.teachers.items():
            if cached:
                others = self.context.cached_layers.get(self.spec.frozen_runs[role], ())
                teacher.prepare(self.job.layers, others, stopping)

    def begin_epoch(self, steps: int) -> None:
        """Start this epoch's random streams, measurements and learning rate."""
        spec, epoch = self.spec, self.history.epoch
        self._started = time.perf_counter()
        self._step = self._images = self._labelled = 0
        self._dropout = {
            role: seeds.integers(seeds.stream(spec, "dropout", role, epoch), steps)
            for role in self.networks.in_training()
        }
        seeds.seed_torch(self.generator, seeds.stream(spec, "method", epoch=epoch))
        for value in (self.correct, *self.loss_sums.values()):
            value.zero_()
        self.lr = lr_at(spec.recipe, epoch)
        set_lr(self.optimizer, self.lr)
        self.networks.train()

    def end_epoch(self, held_out: Tensor) -> None:
        """Close the epoch: renew snapshots, validate, keep the best weights so far."""
        self.networks.renew_snapshots()
        history = self.history
        history.epoch += 1
        row: dict[str, Any] = {"epoch": history.epoch, "lr": self.lr}
        for name, value in self.loss_sums.items():
            row[f"train.loss.{name}" if name else "train.loss"] = float(value) / self._images
        row["train.accuracy"] = float(self.correct) / self._labelled
        if len(held_out):
            row |= self._validate(held_out)
        # The weights too: the last step can break them, and no later loss would show it.
        weights = self.networks.deployed().values()
        finite = torch.stack([tensor.isfinite().all() for tensor in weights]).all()
        history.finite = all(math.isfinite(v) for v in row.values()) and bool(finite)
        if history.finite and len(held_out):
            self._keep_best(row)
        row["seconds"] = time.perf_counter() - self._started
        history.seconds += row["seconds"]
        history.rows.append({k: v for k, v in row.items() if math.isfinite(v)})

    def _validate(self, held_out: Tensor) -> dict[str, float]:
        """Accuracy (a fraction), NLL (nats) and the run's own measure of the student on held-out
        images."""
        network = self.networks.scored.eval()
        images = self.context.views("none")
        predicted, losses = [], []
        with torch.no_grad():
            for position in held_out.split(EVALUATION_BATCH):
                logits = network(images.take(position)).logits
                labels = images.labels[position]
                predicted.append(logits.argmax(1))
                losses.append(F.cross_entropy(logits, labels, reduction="sum"))
        nll = sum(torch.stack(losses).tolist()) / len(held_out)
        pair = [part.cpu().numpy() for part in (images.labels[held_out], torch.cat(predicted))]
        scores = {m.validation: measured(m, *pair) for m in (ACCURACY, self.measure)}
        return {**scores, "val.nll": nll}

    def _keep_best(self, row: Mapping[str, Any]) -> None:
        """Keep the best weights by the run's measure, ties by NLL, then the earlier epoch."""
        score, best = (row[self.measure.validation], -row["val.nll"]), self.history.best
        if not best or score > best["score"]:
            weights = copy.deepcopy(self.networks.deployed())
            self.history.best = {
                "score": score,
                "epoch": self.history.epoch,
                "weights": weights,
            }

    # -- stopping and ending

    def state(self) -> dict[str, Any]:
        """All that the run needs to go on from the end of its last epoch, copied."""
        return copy_state(self.networks, self.optimizer, self.history)

    def report(self, checkpoint: bytes | None) -> Epochs:
        """The epochs that have not been reported yet, with the state after the last of them."""
        return self.history.report(self.spec.id, checkpoint)

    def finished(self) -> Finished:
        """The run's result and weights."""
        return finished(self.job, self.context.data, self.networks, self.history)

    def tensors(self) -> list[Tensor]:
        """All tensors that a step changes, gradients left out."""
        moments = [v for s in self.optimizer.state.values() for v in s.values() if v is not None]
        return [*self.networks.tensors(), *moments, self.correct, *self.loss_sums.values()]


def step_each(
    batch: SharedBatch, runs: Sequence[TrainingRun], guarded: Callable[..., bool]
) -> list[TrainingRun]:
    """Take one step of every run, one after the other; those for which it went well."""
    left = [run for run in runs if guarded(run.spec.id, run.step, batch)]
    batch.release()
    return left


def input_of(method: Method, role: str) -> Input:
    """What a role is shown: a view of the batch's examples, or other examples."""
    return method.examples.get(role) or method.views.get(role, 0)


def inputs_of(runs: Iterable[TrainingRun]) -> set[Input]:
    """The views and other examples that at least one of the runs is shown."""
    return {input_of(run.method, role) for run in runs for role in run.networks.sources} | {0}


def live_layers(runs: Iterable[TrainingRun]) -> LiveLayers:
    """The teacher networks that runs share and ask batch by batch, and what they are shown, with
    all layers that these runs read of each, sorted."""
    layers: dict[tuple[TeacherNetwork, Input], set[str]] = {}
    for run in runs:
        alone = run.method.image_score() is not None
        for role, (teacher, cached) in run.networks.teachers.items():
            if not (cached or alone):
                asked = teacher, input_of(run.method, role)
                layers.setdefault(asked, set()).update(run.job.layers)
    return {asked: tuple(sorted(names)) for asked, names in layers.items()}


def batches_for(
    runs: Sequence[TrainingRun], context: TrainingContext, examples: TrainingExamples, epoch: int
) -> list[SharedBatch]:
    """The batches of an epoch with the views and live teacher outputs that the runs need."""
    first = runs[0]
    needs = inputs_of(runs), live_layers(runs), first.shows_unlabelled
    return epoch_batches(context, first.spec, examples, epoch, *needs)
