"""Means over classes of unequal size: how often a margin's difference is called equal."""

import math

import numpy as np
import pytest

from kdbench.records.measures import BALANCED, largest_step
from kdbench.stats import Analysis, judge, paired_difference

#: Test images by class: the smallest counts 2.5 points, an image of accuracy 0.2.
COUNTS = np.array([200, 160, 90, 40, 10])
WEIGHTS = 100 / (len(COUNTS) * COUNTS)
MARGIN = 0.3
FAMILIES = 100


def wrongly_equal(classes, image, n, methods=10):
    """The share of studies in which some method is called practically equal that truly is a margin
    worse: the images of `classes` that it gets wrong come and go from seed to seed, as often as
    makes a margin."""
    rng = np.random.default_rng(n)
    rates = MARGIN / len(classes) / WEIGHTS[classes]
    analysis = Analysis(margin=MARGIN, image=image, test="moderated-t")
    wrong = 0
    for _ in range(FAMILIES):
        reference = 80 + 3 * rng.normal(size=n)
        lost = rng.poisson(rates, (methods, n, len(classes))) @ WEIGHTS[classes]
        base = dict(enumerate(reference))
        differences = {
            str(k): paired_difference(dict(enumerate(reference - row)), base, image=image)
            for k, row in enumerate(lost)
        }
        wrong += any(v.equal for v in judge(differences, analysis).verdicts.values())
    return wrong / FAMILIES


@pytest.mark.parametrize("n", [5, 20])
@pytest.mark.parametrize("classes", [[4], [0], [0, 1, 2, 3, 4]])
def test_a_margins_difference_is_seldom_called_equal(n, classes):
    """Whether the images that differ are of the smallest class, of the largest, or of all."""
    image = 100 * largest_step(BALANCED, COUNTS)
    assert wrongly_equal(classes, image, n) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / FAMILIES)


def test_what_an_image_counts_on_average_would_not_do():
    """Nor what the least image counts: few seeds may not show an image that counts much."""
    for share in (100 / COUNTS.sum(), WEIGHTS.min()):
        assert wrongly_equal([4], share, 20) > 0.2
