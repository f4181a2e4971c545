"""The optimiser and the learning rate of a recipe."""

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from kdbench.records.spec import Recipe
from kdbench.training.split_momentum import SplitMomentum


def make_optimizer(
    recipe: Recipe,
    parameters: Iterable[nn.Parameter],
    device: torch.device,
    shifts: Mapping[str, float] = MappingProxyType({}),
) -> torch.optim.Optimizer:
    """One optimiser over everything a run trains; `shifts` are what its method adds to the
    momentum of terms. `fused` is written out because the fused and the plain update differ in
    their last bits.

    On a GPU its steps can be captured as a CUDA graph: the learning rate is a tensor, and
    nothing is read back.
    """
    on_gpu = device.type == "cuda"
    shared: dict[str, Any] = {
        "lr": torch.tensor(recipe.lr, device=device) if on_gpu else recipe.lr,
        "weight_decay": recipe.weight_decay,
    }
    if shifts:
        return SplitMomentum(parameters, shifts, momentum=recipe.momentum, **shared)
    shared["fused"] = True
    if recipe.optimizer == "sgd":
        shared |= {"momentum": recipe.momentum, "nesterov": recipe.nesterov}
        return torch.optim.SGD(parameters, **shared)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return kind(parameters, capturable=on_gpu, **shared)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter this learning rate, in place where it is a tensor."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def load_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load a saved state, and keep this device's own settings."""
    own = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    groups = [
        {**settings, "params": kept["params"]}
        for settings, kept in zip(own, state["param_groups"], strict=True)
    ]
    optimizer.load_state_dict({**state, "param_groups": groups})


def lr_at(recipe: Recipe, epoch: int) -> float:
    """The learning rate of an epoch (from 0): a function of the epoch alone, so that a
    resumed run needs no scheduler state.

    In the warm-up it grows in equal steps to `lr` (Goyal et al. 2017); a cosine begins after it.
    One cycle is torch's `OneCycleLR` with its defaults, an epoch for a step.
    """
    if epoch < recipe.warmup:
        return recipe.lr * (epoch + 1) / recipe.warmup
    share = epoch / recipe.epochs
    if recipe.schedule == "cosine":
        share = (epoch - recipe.warmup) / (recipe.epochs - recipe.warmup)
        return recipe.lr * _cosine(share)
    if recipe.schedule == "one-cycle":
        return recipe.lr * _one_cycle(epoch, recipe.epochs)
    if recipe.schedule == "step":
        return recipe.lr * recipe.gamma ** sum(share >= m for m in recipe.milestones)
    return recipe.lr


def _cosine(share: float, start: float = 1.0, end: float = 0.0) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))


def _one_cycle(epoch: int, epochs: int) -> float:
    """Up from a 25th in the first 30 % of the epochs, then down to a 250,000th."""
    top = 0.3 * epochs - 1
    if epoch <= top:
        return _cosine(epoch / top, 1 / 25, 1.0)
    return _cosine((epoch - top) / (epochs - 1 - top), 1.0, 1 / 25 / 1e4)
