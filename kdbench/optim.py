"""The optimiser and the learning rate of a recipe."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from kdbench.run import Recipe


def make_optimizer(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """One optimiser over everything a run trains. `fused` is written out because the
    fused and the plain update differ in their last bits."""
    shared: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=recipe.momentum, **shared)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return kind(parameters, **shared)


def lr_at(recipe: Recipe, epoch: int) -> float:
    """The learning rate of an epoch (from 0): a function of the epoch alone, so that a
    resumed run needs no scheduler state."""
    share = epoch / recipe.epochs
    if recipe.schedule == "cosine":
        return recipe.lr * 0.5 * (1 + math.cos(math.pi * share))
    if recipe.schedule == "step":
        return recipe.lr * recipe.gamma ** sum(share >= m for m in recipe.milestones)
    return recipe.lr
