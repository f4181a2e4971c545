"""Students of one architecture trained as one network: weights, statistics and momenta stacked
along a new first dimension, the forward mapped over it by `torch.func.vmap`."""

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from kdbench import models
from kdbench.data import Views
from kdbench.data.load import TrainingData


class Stacked:
    """A training step of `count` students on shared batches, captured as one CUDA graph."""

    def __init__(
        self, name: str, data: TrainingData, count: int, batch: int, precision: str
    ) -> None:
        networks = [models.build(name, data.shape, data.classes).cuda() for _ in range(count)]
        self.network = networks[0].train()
        weights, buffers = stack_module_state(networks)
        self.weights = {k: v.detach().requires_grad_() for k, v in weights.items()}
        self.buffers, self.precision = buffers, precision
        self.views = Views(data, "crop-flip", torch.device("cuda"))
        self.position = torch.arange(batch, device="cuda")
        lr = torch.tensor(0.05, device="cuda")
        self.optimizer = torch.optim.SGD(
            self.weights.values(), lr=lr, momentum=0.9, weight_decay=5e-4, fused=True
        )
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._step()
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=stream):
            self._step()

    def replay(self) -> None:
        self.graph.replay()

    def _step(self) -> None:
        images = self.views.take(self.position, self.position)
        labels = self.views.labels[self.position]

        def loss(weights: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            with torch.autocast("cuda", torch.bfloat16, enabled=self.precision == "bf16"):
                logits = functional_call(self.network, (weights, buffers), (images,))
            return F.cross_entropy(logits.float(), labels)

        self.optimizer.zero_grad(set_to_none=True)
        vmap(loss, randomness="different")(self.weights, self.buffers).sum().backward()
        self.optimizer.step()
