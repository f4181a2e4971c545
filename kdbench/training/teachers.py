"""Teacher networks: the frozen students of other runs, and their outputs.

Where an example has few views, the outputs of a frozen network over all of them are cached on
disk for every method, seed and trial. Otherwise one live forward a batch serves the whole
cohort. The two agree only to rounding, so the choice follows from the spec alone
(`records.spec.uses_cache`), and a cache that is opened is held against a live forward.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from kdbench import models
from kdbench.data import Views
from kdbench.data.load import TrainingData
from kdbench.errors import KdbenchError
from kdbench.methods import METHODS
from kdbench.methods.layers import layers_of_run, role_models_of_run, shapes_of_run
from kdbench.models.output import Output
from kdbench.models.source_files import search_sources
from kdbench.records.readers import CorruptRecord, checksum
from kdbench.records.spec import TYPES, RunSpec
from kdbench.records.store import Store
from kdbench.training.memory import trim
from kdbench.training.output_cache import Block, OutputCache

#: Cached rows that are computed once more when the cache is opened, and how far they may lie
#: from it, as a share of the row's largest value: wide enough for other roundings.
SPOTS = 16
TOLERANCE = {"fp32": 1e-3, "fp16": 4e-3}
#: What the names of a head's tensors begin with, beside those of the student.
HEAD = "head/"


class WrongCache(KdbenchError):
    """Cached outputs differ from what their network answers."""

    def __init__(self, path: Path, name: str, image: int, view: int) -> None:
        super().__init__(
            f"{path} is wrong: the {name} of image {image} in view {view} differ from a live "
            "forward of the frozen network. Remove the file, and the next start makes it again."
        )


def load_student(store: Store, run_id: str, which: str, data: TrainingData) -> nn.Module:
    """The student that run `run_id` made, with its head if it has one, in eval mode; `which` is
    `last` or `best`.

    Raises `FileNotFoundError` where the run is unfinished, `CorruptRecord` where its
    weights are not whole.
    """
    search_sources(store.root)
    record = store.record(run_id)
    spec = record.spec()
    if spec is None or record.result is None:
        raise FileNotFoundError(f"run {run_id} is not finished, so its weights cannot be used")
    with torch.random.fork_rng(devices=[]):
        network = models.build(spec.models["student"], data.shape, data.classes)
    stored = load_tensors(record.state_dict())
    weights = _below(f"{which}/", stored)
    of_head = _below(HEAD, weights)
    deployed, head = _with_head(store, spec, network, data) if of_head else (network, None)
    try:
        network.load_state_dict({n: v for n, v in weights.items() if not n.startswith(HEAD)})
        if head is not None:
            head.load_state_dict(of_head)
    except RuntimeError as error:
        raise CorruptRecord(record.weights_path, str(error)) from error
    return deployed.eval().requires_grad_(False)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}


def _with_head(
    store: Store, spec: RunSpec, network: nn.Module, data: TrainingData
) -> tuple[models.DeployedModel, nn.Module]:
    """A network with the head that the method of its run gives it, and the head."""
    method = METHODS[spec.method](**spec.hparams)

    def model_of(run_id: str) -> str:
        frozen = store.record(run_id).spec()
        if frozen is None:
            raise FileNotFoundError(f"run {run_id}, from which run {spec.id} learned, is missing")
        return frozen.models["student"]

    layers = layers_of_run(spec, method, model_of, data.shape, data.classes)
    role_models = role_models_of_run(spec, method, model_of)
    sizes = shapes_of_run(role_models, layers, data.shape, data.classes, len(data.labels))
    with torch.random.fork_rng(devices=[]):
        head = method.head(method.helpers(sizes))
    if head is None:
        raise CorruptRecord(
            store.record(spec.id).weights_path, f"they are of a head that {spec.method} has not"
        )
    return models.DeployedModel(models.with_head(network, layers, head)), head


class TeacherNetwork:
    """The finished student of another run, as a source of outputs over training images.

    Computes in float32 whatever the recipe's precision; `storage` is the type its cached
    outputs are kept in, `fp32` or `fp16`.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        which: str,
        data: TrainingData,
        views: Views,
        storage: str = "fp32",
    ) -> None:
        self.run_id, self.views = run_id, views
        self.images = len(data.labels)
        model = load_student(store, run_id, which, data)
        self.model = models.to_device(model, views.device)
        network = model.network if isinstance(model, models.DeployedModel) else model
        self._parameters = models.own_parameters(network)
        spec = store.record(run_id).spec()
        assert spec is not None, "a run whose weights were loaded has a spec"
        self.model_name = spec.models["student"]
        self.shapes = models.feature_shapes(self.model_name, data.shape, data.classes)
        #: The SHA-256 of the weights: a teacher trained again on a GPU is another network.
        self.checksum = checksum(store.record(run_id).state_dict())
        key = {
            "run": run_id,
            "weights": which,
            "content": self.checksum,
            "data": data.checksum,
            "views": views.augment,
            "compute": "fp32",
        }
        rows = {"logits": (data.classes,), **self.shapes}
        self.cache = OutputCache(store.output_cache, key, views.count, self.images, rows, storage)
        self._extractors: dict[tuple[str, ...], nn.Module] = {}
        self._cached: dict[str, Tensor] = {}

    def live(self, images: Tensor, layers: Sequence[str]) -> Output:
        """The outputs for a batch of images: one forward in eval mode, without gradients."""
        with torch.no_grad():
            return self.network(layers)(images)

    def network(self, layers: Sequence[str]) -> nn.Module:
        """The network in eval mode, returning `Output` with the features of `layers`."""
        names = tuple(sorted(layers))
        if names not in self._extractors:
            self._extractors[names] = self._extractor(names).eval()
        return self._extractors[names]

    def _extractor(self, layers: Sequence[str]) -> nn.Module:
        if isinstance(self.model, models.DeployedModel):
            return self.model.with_features(layers)
        return models.with_features(self.model, layers)

    def cached(self, position: Tensor, layers: Sequence[str], view: Tensor | None = None) -> Output:
        """The cached outputs of the training images at `position` (batch) in the views `view`
        (batch; None: the plain images), float32."""
        self.prepare(layers)
        row = position
        if self.views.count > 1:
            row = position + self.images * (self.views.plain if view is None else view)
        outputs = {name: self._cached[name][row].float() for name in ("logits", *layers)}
        return Output(outputs.pop("logits"), outputs, self._parameters)

    def prepare(
        self,
        layers: Sequence[str],
        others: Sequence[str] = (),
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Open the cached logits and features of `layers`, filling the cache where it is not
        complete; the features of `others`, which other runs will read, in the same forwards.
        What is damaged is removed first, and so filled again.

        Stops filling where `stopping` turns true. Raises `WrongCache` where the cache does not
        agree with a live forward.
        """
        names = [name for name in ("logits", *layers) if name not in self._cached]
        if not names:
            return
        self.cache.remove_damaged(names)
        if not all(self.cache.is_complete(name) for name in names):
            every = tuple(dict.fromkeys((*names, *others)))
            if not self.cache.fill(every, self._compute, stopping):
                return
            trim()  # a block's feature maps are large
        opened = {name: torch.from_numpy(self.cache.open(name)) for name in names}
        self._spot_check(opened)
        self._cached |= {name: rows.to(self.views.device) for name, rows in opened.items()}

    def _compute(self, block: Block, names: Sequence[str]) -> dict[str, np.ndarray]:
        position = torch.arange(block.start, block.stop, device=self.views.device)
        out = self.live(self.views.take(position, block.view), [n for n in names if n != "logits"])
        computed = {}
        for name in names:
            value = (out.logits if name == "logits" else out.features[name]).float().cpu().numpy()
            kept = value.astype(TYPES[self.cache.storage])
            if np.isinf(kept).any() and not np.isinf(value).any():
                raise ValueError(
                    f"the {name} of a frozen network reach {np.abs(value).max():.3g}, more than "
                    "fp16 can hold; take recipe.storage: fp32"
                )
            computed[name] = kept
        return computed

    def _spot_check(self, opened: Mapping[str, Tensor]) -> None:
        """Compute a few rows, others each time, once more: the file may be what was written, and
        the network's code or libraries others since. Raises `WrongCache`."""
        rows = self.views.count * self.images
        row = torch.from_numpy(np.random.default_rng().integers(rows, size=SPOTS))
        position, view = row % self.images, row // self.images
        out = self.live(self.views.take(position, view), [n for n in opened if n != "logits"])
        for name, cached in opened.items():
            live = (out.logits if name == "logits" else out.features[name]).float().cpu().flatten(1)
            away = (cached[row].float().flatten(1) - live).abs().amax(1)
            limit = TOLERANCE[self.cache.storage] * live.abs().amax(1)
            # Written so that a NaN in the cache is found.
            for spot in (~(away <= limit)).nonzero().flatten().tolist():
                raise WrongCache(self.cache.path(name), name, int(position[spot]), int(view[spot]))
