"""Scores by seed for tests of statistics."""

from kdbench.stats import paired_difference


def by_seed(values):
    """Scores of seeds 0, 1, ..."""
    return dict(enumerate(float(v) for v in values))


def difference(values):
    """The difference that is `values` on seeds 0, 1, ..."""
    return paired_difference(by_seed(values), by_seed([0.0] * len(values)))
