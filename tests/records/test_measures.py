"""Means over classes: the values of scikit-learn, and the most that one image changes them."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from kdbench.records.measures import (
    ACCURACY,
    BALANCED,
    MACRO_F1,
    MEASURES,
    largest_step,
    measured,
)

COUNTS = ([40, 25, 9, 1], [30, 30, 30], [7, 0, 2], [1, 1])


def predictions(counts, seed, right=0.7):
    labels = np.repeat(np.arange(len(counts)), counts)
    rng = np.random.default_rng(seed)
    wrong = rng.integers(0, len(counts), len(labels))
    return labels, np.where(rng.random(len(labels)) < right, labels, wrong)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("right", [0.0, 0.7, 1.0])
def test_the_values_are_those_of_scikit_learn(counts, right):
    for seed in range(5):
        labels, predicted = predictions(counts, seed, right)
        expected = balanced_accuracy_score(labels, predicted)
        assert measured(BALANCED, labels, predicted) == pytest.approx(expected)
        expected = f1_score(labels, predicted, average="macro")
        assert measured(MACRO_F1, labels, predicted) == pytest.approx(expected)
        assert measured(ACCURACY, labels, predicted) == np.mean(labels == predicted)


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("measure", MEASURES.values())
def test_no_image_changes_a_score_by_more(measure, counts):
    """Every image is given every other class, where many, few and none are right."""
    largest = 0.0
    for seed, right in enumerate((0.0, 0.5, 0.9, 1.0)):
        labels, predicted = predictions(counts, seed, right)
        before = measured(measure, labels, predicted)
        for image in range(len(labels)):
            for other in range(len(counts)):
                changed = predicted.copy()
                changed[image] = other
                largest = max(largest, abs(measured(measure, labels, changed) - before))
    bound = largest_step(measure, np.array(counts))
    assert largest <= bound + 1e-12
    if measure != MACRO_F1:  # whose bound is conservative
        assert largest == pytest.approx(bound)


def test_balanced_test_sets_count_alike():
    counts = np.full(10, 50)
    assert largest_step(BALANCED, counts) == pytest.approx(largest_step(ACCURACY, counts))
