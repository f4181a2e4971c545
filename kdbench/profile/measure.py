"""Latency, memory and size of a study's networks on this machine.

Timings of one network after the other would show what else the machine did meanwhile. Here the
networks take turns, so that whatever disturbs the machine for a while disturbs all of them alike.
"""

import statistics
from collections.abc import Callable, Sequence

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from kdbench.profile.networks import find_networks, load_network
from kdbench.records.plan_file import PlanFile
from kdbench.records.profiles import BATCHES, WEIGHTS, Profile, ProfiledNetwork, Timing
from kdbench.records.provenance import stamp
from kdbench.records.store import Store
from kdbench.training.memory import peak_memory

#: How often each network has its turn.
REPETITIONS = 50


def profile_study(
    store: Store,
    plan: PlanFile,
    device: str,
    threads: int = 1,
    log: Callable[[str], None] = lambda _: None,
) -> Profile:
    """Measure every network of a study's finished runs on a device, on the CPU with `threads`
    threads. `log` gets a line before each step that takes long. Raises `NothingToProfile` where
    there is none, and `CorruptRecord`."""
    found = find_networks(store, plan)
    place = torch.device(device)
    networks = [load_network(store, plan, network.run, place) for network in found]
    assert plan.data is not None, "networks were built for its images"
    timings: list[list[Timing]] = [[] for _ in networks]
    for batch in BATCHES:
        names = ", ".join(network.name for network in found)
        log(f"measuring {names} on batches of {batch} ...")
        images = torch.randn(batch, *plan.data.shape, device=place)
        images = images.contiguous(memory_format=torch.channels_last)
        for collected, timing in zip(timings, take_turns(networks, images, threads), strict=True):
            collected.append(timing)
    profiled = tuple(
        ProfiledNetwork(
            network.name, network.role, network.rows, network.parameters, network.macs,
            file_sizes(model), tuple(measured),
        )
        for network, model, measured in zip(found, networks, timings, strict=True)
    )  # fmt: skip
    origin = stamp(device)
    machine = origin["hardware"]
    if place.type == "cuda":
        machine = f"{torch.cuda.get_device_name(place)}, {machine}"
    return Profile(
        machine, device, threads, origin["versions"], origin["finished"], REPETITIONS, profiled
    )


def take_turns(networks: Sequence[nn.Module], images: Tensor, threads: int) -> list[Timing]:
    """The time and memory of each network for a batch of images on the device of both. In a turn
    one forward is timed, after two that warm up."""
    timers = [
        Timer("forward(images)", globals={"forward": _forward_of(n), "images": images},
              num_threads=threads)
        for n in networks
    ]  # fmt: skip
    turns = [[timer.timeit(1).mean for timer in timers] for _ in range(REPETITIONS)]
    timings = []
    for network, seconds in zip(networks, zip(*turns, strict=True), strict=True):
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        forward = _forward_of(network)
        peak = peak_memory(lambda run=forward: run(images), images.device)  # type: ignore[misc]
        timings.append(Timing(len(images), median, low, high, peak + _bytes_of(network)))
    return timings


def _forward_of(network: nn.Module) -> Callable[[Tensor], Tensor]:
    def forward(images: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = network(images)
            return logits

    return forward


def _bytes_of(network: nn.Module) -> int:
    return sum(t.nbytes for t in (*network.parameters(), *network.buffers()))


def file_sizes(network: nn.Module) -> dict[str, int]:
    """The bytes of a network's file by format."""
    tensors = {name: t.cpu().contiguous() for name, t in network.state_dict().items()}
    return {WEIGHTS: len(save_tensors(tensors))}
