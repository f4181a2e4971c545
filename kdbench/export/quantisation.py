"""What a smaller type of numbers costs on the test set, over the seeds of a row."""

from collections.abc import Mapping

import numpy as np

from kdbench.data import TrainingData
from kdbench.export.choice import Choice
from kdbench.export.description import Quantisation
from kdbench.records.measures import MEASURES, largest_step, measured
from kdbench.stats import FEWEST_SEEDS, Analysis, judge, paired_difference

#: Training images that show the ranges of activations.
CALIBRATION = 512


def calibration_images(data: TrainingData) -> np.ndarray:
    """Training images without their labels, drawn with one fixed seed: float32 in 0..1."""
    count = min(CALIBRATION, len(data.images))
    chosen = np.random.default_rng(0).choice(len(data.images), count, replace=False)
    images = data.images[np.sort(chosen)].float().div(data.scale)
    return np.ascontiguousarray(images.numpy())


def judge_quantised(
    choice: Choice,
    kind: str,
    labels: np.ndarray,
    logits: Mapping[int, np.ndarray],
    recorded: Mapping[int, np.ndarray],
    calibrated_on: int,
) -> Quantisation:
    """The verdict on the quantised networks of a row against its float ones, from the logits
    (images x classes) of both on test by seed: the paired t test and the two one-sided tests
    against the study's margin."""
    measure = MEASURES[choice.plan.measure]

    def scores(by_seed: Mapping[int, np.ndarray]) -> dict[int, float]:
        return {s: 100 * measured(measure, labels, x.argmax(axis=1)) for s, x in by_seed.items()}

    small, full = scores(logits), scores(recorded)
    classes = next(iter(recorded.values())).shape[1]
    step = 100 * largest_step(measure, np.bincount(labels, minlength=classes))
    analysis = Analysis(margin=max(choice.plan.margin, 100 / len(labels)), image=step)
    difference = paired_difference(small, full, analysis.level, analysis.image)
    verdict = judge({kind: difference}, analysis).verdicts[kind]
    enough = difference.n >= FEWEST_SEEDS
    return Quantisation(
        kind=kind,
        measure=measure.words,
        scores={str(seed): score for seed, score in small.items()},
        float_scores={str(seed): score for seed, score in full.items()},
        difference=difference.mean,
        low=difference.low if enough else None,
        high=difference.high if enough else None,
        level=analysis.level,
        margin=analysis.margin,
        verdict=verdict.text,
        calibrated_on=calibrated_on,
    )
