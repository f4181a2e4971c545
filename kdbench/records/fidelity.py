"""How faithfully a student repeats its teacher, from two tables of logits. No torch here."""

import numpy as np
from scipy.special import log_softmax

__all__ = ["agreement", "kl"]


def agreement(teacher: np.ndarray, student: np.ndarray) -> float:
    """The fraction (0 to 1) of images on which both have the same most likely class.

    Logits are images x classes. Raises `ValueError` where the shapes differ.
    """
    check(teacher, student)
    return float(np.mean(np.argmax(teacher, axis=1) == np.argmax(student, axis=1)))


def kl(teacher: np.ndarray, student: np.ndarray) -> float:
    """Mean over images of KL(teacher || student) in nats, at temperature 1.

    Logits are images x classes; computed in float64. Logits that are not finite give
    NaN. Raises `ValueError` where the shapes differ.
    """
    check(teacher, student)
    if not (np.isfinite(teacher).all() and np.isfinite(student).all()):
        return float("nan")
    log_p = log_softmax(teacher.astype(np.float64), axis=1)
    log_q = log_softmax(student.astype(np.float64), axis=1)
    # Rounding can leave a sum of -1e-17 for equal tables; a divergence is never negative.
    return max(0.0, float(np.mean(np.sum(np.exp(log_p) * (log_p - log_q), axis=1))))


def check(teacher: np.ndarray, student: np.ndarray) -> None:
    """Both are images x classes of one shape, with an image at least, or `ValueError`."""
    if teacher.shape != student.shape or teacher.ndim != 2 or teacher.size == 0:
        raise ValueError(
            f"logits must be images x classes and alike: {teacher.shape} and {student.shape}"
        )
