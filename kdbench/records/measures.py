"""What a study compares methods by: accuracy, or a mean over the classes where they are unequal."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Measure:
    """A score of predictions, a fraction: its name in study files (`key`), in tables (`column`)
    and in text (`words`); `val.` and the column name it on validation data."""

    key: str
    column: str
    words: str

    @property
    def validation(self) -> str:
        """The metric of a run on validation data."""
        return f"val.{self.column}"

    @property
    def title(self) -> str:
        """What a study measures with it, as captions call it."""
        return f"Test {self.words}"


ACCURACY = Measure("accuracy", "accuracy", "accuracy")
BALANCED = Measure("balanced-accuracy", "balanced_accuracy", "balanced accuracy")
MACRO_F1 = Measure("macro-f1", "f1", "macro F1")

MEASURES = {measure.key: measure for measure in (ACCURACY, BALANCED, MACRO_F1)}
"""The scores by which a study may compare, by their name in a study file."""


def balanced_accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """The mean over the classes that `labels` has of the share of their images that are right."""
    images = np.bincount(labels)
    right = np.bincount(labels[labels == predicted], minlength=len(images))
    return float((right[images > 0] / images[images > 0]).mean())


def macro_f1(labels: np.ndarray, predicted: np.ndarray) -> float:
    """The mean F1 over the classes that occur in `labels` or `predicted`."""
    classes = 1 + int(max(labels.max(), predicted.max()))
    both = np.bincount(labels, minlength=classes) + np.bincount(predicted, minlength=classes)
    right = np.bincount(labels[labels == predicted], minlength=classes)
    return float((2 * right[both > 0] / both[both > 0]).mean())


def measured(measure: Measure, labels: np.ndarray, predicted: np.ndarray) -> float:
    """The score of predicted classes against true ones."""
    if measure == BALANCED:
        return balanced_accuracy(labels, predicted)
    if measure == MACRO_F1:
        return macro_f1(labels, predicted)
    return float((labels == predicted).mean())


def largest_step(measure: Measure, images: np.ndarray) -> float:
    """The most that the prediction of one test image changes a score, of so many test images by
    class; a fraction.

    It bounds how little the difference of two runs varies from seed to seed. Let the images on
    which they differ come and go independently, at a rate of r_i a seed for image i, and each
    change the score by w_i, at most w. A true difference of M is the sum of r_i w_i where all
    go one way, and its variance, that of Poisson counts, is the sum of r_i w_i^2: it lies between M
    times the smallest and M times the largest w_i. Which images they are is not known, and few
    seeds need not show those that are rare and count much. So the variance that tests of equality
    take is at least M w, which is right if all are of the kind that counts most and else too
    large, never too small.

    - Accuracy: each of N images counts w = 1 / N.
    - Balanced accuracy: the variance of a class' recall of n images is that of a binomial count
      divided by n^2, so an image counts 1 / (K n) among K classes, and one of the smallest class
      most: w = 1 / (K n_min).
    - Macro F1: F1 of a class is 2 t / (n + p) with t right of n images and p predictions. An image
      of class c that changes from class a to c adds 2 (n + p - t) / ((n + p) (n + p + 1)) <=
      2 / (n + 1) to that of c, and at most 1 / (2 n + 1) to that of a, which loses a wrong
      prediction (2 t / ((n + p) (n + p - 1)) is largest at t = n, p = n + 1). One that changes
      between two wrong classes counts less. So w = (2 / (n_min + 1) + 1 / (2 n_min + 1)) / K. No
      image counts so much in a class of which some are right, so this is conservative.
    """
    if measure == ACCURACY:
        return 1 / int(images.sum())
    present = images[images > 0]
    if measure == BALANCED:
        return 1 / (len(present) * int(present.min()))
    # A class without an image, which F1 counts once it is predicted, is the smallest.
    smallest = int(images.min())
    return min(1.0, (2 / (smallest + 1) + 1 / (2 * smallest + 1)) / len(present))
