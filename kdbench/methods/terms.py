"""What a loss returns: named, weighted scalar terms."""

import re
from collections.abc import Mapping

from torch import Tensor

#: What a term may be called: its name is part of a metric's name, in records and in MLflow.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


def wrong_terms(terms: object) -> str | None:
    """What is wrong with what `loss()` returned, and what is expected; None where nothing is."""
    if not isinstance(terms, Mapping):
        kind = type(terms).__name__
        return f"loss() returns a {kind} and not its terms by name: return {{'task': ...}}"
    if not terms:
        return "loss() returns no term: return {'task': ...}"
    for name, term in terms.items():
        if wrong := wrong_name(name):
            return f"loss() returns a term called {wrong}"
        if not isinstance(term, Tensor):
            kind = type(term).__name__
            return f"the term '{name}' of loss() is a {kind} and not a tensor"
        if term.shape != ():
            shape = tuple(term.shape)
            return f"the term '{name}' of loss() has the shape {shape}: take its mean or its sum"
    return None


def wrong_weights(weights: object) -> str | None:
    """What is wrong with what `loss_weights()` returned, or None."""
    if not isinstance(weights, Mapping):
        kind = type(weights).__name__
        return f"loss_weights() returns a {kind} and not numbers by name: return {{'task': 1.0}}"
    for name, weight in weights.items():
        if wrong := wrong_name(name):
            return f"loss_weights() returns a weight called {wrong}"
        if not isinstance(weight, int | float):
            kind = type(weight).__name__
            return f"loss_weights()['{name}'] is a {kind} and not a number"
    return None


def wrong_name(name: object) -> str | None:
    """The name of a term and what it may be made of, where it is no name; else None."""
    if isinstance(name, str) and NAME.fullmatch(name):
        return None
    return f"{name!r:.60}, which is no name: use letters, digits, '.', '_' and '-', a letter first"
