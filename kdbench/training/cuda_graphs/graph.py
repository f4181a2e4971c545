"""Work captured as a CUDA graph and replayed with one launch; on the CPU it is called."""

import gc
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch

#: Steps before a capture, which let libraries choose their kernels and optimisers make
#: their state; they are undone.
WARM_UP = 2


class CaptureFailed(Exception):
    """A capture failed after it had begun. The message says why.

    It leaves memory and random generators in a state that others may meet, so that nothing
    may be captured after it, and no graph replayed.
    """


class CudaGraph:
    """A piece of work that can be replayed again and again, on a stream of its own on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._dropout = torch.Generator(device)
        self._graph: torch.cuda.CUDAGraph | None = None

    def use_own_dropout(self) -> None:
        """Have the device's default generator draw from this graph's own state.

        A graph draws dropout from the state it was captured with. Were it shared, graphs on
        parallel streams would overwrite each other's seed.
        """
        if self.stream is not None:
            _default_generator(self.device).graphsafe_set_state(self._dropout.graphsafe_get_state())

    def capture(
        self, work: Callable[[], object], generators: Iterable[torch.Generator] = ()
    ) -> None:
        """Capture `work`, which must have been done before. Raises `CaptureFailed`."""
        self.work = work
        if self.stream is None:
            return
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        self.use_own_dropout()
        try:
            with torch.cuda.graph(graph, stream=self.stream):
                work()
        except Exception as error:
            # The generators stay in capture mode until their graph is gone.
            for generator in (_default_generator(self.device), *generators):
                generator.graphsafe_set_state(torch.Generator(self.device).graphsafe_get_state())
            raise CaptureFailed(one_line(error)) from error
        self._graph = graph

    def replay(self) -> None:
        """Do the work once more."""
        if self._graph is None:
            self.work()
            return
        assert self.stream is not None
        with torch.cuda.stream(self.stream):
            self._graph.replay()


def can_capture(device: torch.device) -> bool:
    """Whether a step with dropout, autograd and an optimiser can be captured and replayed on
    this GPU, and eager work goes on after it. Tried before any run depends on it: the first
    capture of a process can fail where later ones do not."""
    for _ in range(2):
        layer = torch.nn.Linear(8, 8, device=device)
        lr = torch.tensor(0.1, device=device)
        optimizer = torch.optim.Adam(layer.parameters(), lr=lr, fused=True, capturable=True)
        images = torch.ones(4, 8, device=device)

        def work(layer=layer, optimizer=optimizer, images=images) -> None:
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.dropout(layer(images), 0.5).square().mean().backward()
            optimizer.step()

        graph = CudaGraph(device)
        try:
            with torch.cuda.stream(graph.stream):
                graph.use_own_dropout()
                for _ in range(WARM_UP):
                    work()
            torch.cuda.synchronize(device)
            graph.capture(work)
            graph.replay()
            torch.cuda.synchronize(device)
            work()
            return True
        except (CaptureFailed, RuntimeError):
            gc.collect()
    return False


def one_line(error: Exception) -> str:
    """The first line of an error, for a result to say why its steps were not captured."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _default_generator(device: torch.device) -> torch.Generator:
    return torch.cuda.default_generators[device.index or 0]


@contextmanager
def no_waiting(device: torch.device) -> Iterator[None]:
    """Raise an error for work that waits for a GPU, which would make a capture fail."""
    if device.type == "cpu":
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        # That this mode does not see every wait: those make the capture fail.
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
