"""Latency, memory and size of a study's networks on this machine.

Timings of one network after the other would show what else the machine did meanwhile. Here the
networks take turns, so that whatever disturbs the machine for a while disturbs all of them alike.
"""

import statistics
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from kdbench.profile.networks import find_networks, load_network, plan_data
from kdbench.profile.sizes import file_sizes
from kdbench.records.plan_file import PlanFile
from kdbench.records.profiles import BATCHES, Profile, ProfiledNetwork, Timing
from kdbench.records.provenance import hardware, stamp
from kdbench.records.store import Store
from kdbench.training.memory import peak_memory

#: How often each network has its turn.
REPETITIONS = 50


def profile_studies(
    store: Store,
    plans: Sequence[PlanFile],
    device: str,
    threads: int = 1,
    log: Callable[[str], None] = lambda _: None,
) -> list[Profile]:
    """Measure every network of the finished runs of studies on a device, on the CPU with `threads`
    threads; a profile for each study. The networks of all of them take turns, and one that
    several studies have, as a common teacher, is measured once.

    `log` gets a line before what takes long, and about what could not be had. Raises
    `NothingToProfile` where a study has no network, and `CorruptRecord`.
    """
    found = [find_networks(store, plan) for plan in plans]
    distinct = {n.size: (n, plan) for plan, ns in zip(plans, found, strict=True) for n in ns}
    log(f"measuring {', '.join(n.name for n, _ in distinct.values())} ...")
    place = torch.device(device)
    networks = [load_network(store, plan, n.run, place) for n, plan in distinct.values()]
    timings: list[list[Timing]] = [[] for _ in networks]
    for batch in BATCHES:
        shapes = [plan_data(plan).shape for _, plan in distinct.values()]
        images = [torch.randn(batch, *shape, device=place) for shape in shapes]
        for own, timing in zip(timings, take_turns(networks, images, threads), strict=True):
            own.append(timing)
    log("writing them in each format ...")
    sizes = [
        file_sizes(network, n.spec, plan_data(plan), log)
        for network, (n, plan) in zip(networks, distinct.values(), strict=True)
    ]
    measured = dict(zip(distinct, zip(sizes, map(tuple, timings), strict=True), strict=True))
    origin = stamp(device)
    machine = hardware()
    if place.type == "cuda":
        machine = f"{torch.cuda.get_device_name(place)}, {machine}"
    return [
        Profile(
            machine, device, threads, origin["versions"], origin["finished"], REPETITIONS,
            tuple(
                ProfiledNetwork(n.name, n.role, n.rows, n.parameters, n.macs, *measured[n.size])
                for n in ns
            ),
        )
        for ns in found
    ]  # fmt: skip


def take_turns(
    networks: Sequence[nn.Module], batches: Sequence[Tensor], threads: int
) -> list[Timing]:
    """The time and memory of each network for its batch of images, on the device of both. In a
    turn one forward is timed, after two that warm up."""
    timers = [
        Timer("forward(images)", globals={"forward": _forward_of(n), "images": images},
              num_threads=threads)
        for n, images in zip(networks, batches, strict=True)
    ]  # fmt: skip
    turns = [[timer.timeit(1).mean for timer in timers] for _ in range(REPETITIONS)]
    timings = []
    for network, images, seconds in zip(networks, batches, zip(*turns, strict=True), strict=True):
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        forward = _forward_of(network)
        peak = peak_memory(partial(forward, images), images.device)
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
