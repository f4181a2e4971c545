"""Which hyperparameters a trial of the tuning tries, and which trial is the best.

They depend only on the tuning seed, the names, and the trials finished before, so a tuning
that was interrupted continues with the same trials. Without torch; Optuna is imported only
when needed.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdbench.records.spec import Interval, Ranges
from kdbench.registry import UnknownName, did_you_mean
from kdbench.tracking.optuna_storage import experimental, quieten

if TYPE_CHECKING:
    import optuna

SAMPLERS = ("random", "tpe")

#: Trials that TPE suggests together: their scores are known only to the next round.
ROUND = 4

#: The share of an interval at each of its ends that counts as its edge.
EDGE = 0.05

#: Digits kept of a hyperparameter, so that tables and specs stay readable.
DIGITS = 6


#: The study's score on validation data (a fraction) and validation NLL (nats) of a trial.
Score = tuple[float, float]

#: Finished trials by number: their hyperparameters, and their score (None: diverged).
Finished = Mapping[int, tuple[Mapping[str, float], float | None]]


def suggest(
    sampler: str,
    ranges: Ranges,
    defaults: Mapping[str, float],
    count: int,
    seed: int,
    label: str,
    finished: Finished,
) -> list[dict[str, float]]:
    """The hyperparameters of the trials 0, 1, ... as far as they can be known now, at most `count`.

    Trial 0 is `defaults`. `random` knows all at once; `tpe` knows a round of `ROUND`
    trials when all trials before that round are finished. Scores are higher-is-better.
    Raises `UnknownName` for a sampler that is not in `SAMPLERS`.
    """
    if sampler not in SAMPLERS:
        raise UnknownName(f"unknown sampler {sampler!r}{did_you_mean(sampler, SAMPLERS)}")
    trials = [{name: float(defaults[name]) for name in ranges}]
    if sampler == "random" or not ranges:
        trials += [
            {name: draw(ranges[name], seed, name, number) for name in ranges}
            for number in range(1, count)
        ]
        return trials[:count]
    for first in range(0, count, ROUND):
        if any(number not in finished for number in range(first)):
            break
        history = [finished[number] for number in range(first)]
        # A round is suggested whole, the default being one of the first, so that the values do
        # not depend on how many are wanted.
        trials += tpe_round(ranges, history, first + ROUND - len(trials), seed, label)
    return trials[:count]


def stream(*key: Any) -> np.random.SeedSequence:
    """A seed sequence that is a function of `key` only, on every machine."""
    text = "\n".join(str(part) for part in key)
    return np.random.SeedSequence(int.from_bytes(hashlib.sha256(text.encode()).digest(), "big"))


def draw(interval: Interval, seed: int, name: str, number: int) -> float:
    """Draw `number` of the hyperparameter `name`: the same for every method."""
    share = np.random.default_rng(stream("kdbench.draw", seed, name, number)).random()
    if not interval.log:
        return tidy(interval.low + share * (interval.high - interval.low), interval)
    low, high = math.log(interval.low), math.log(interval.high)
    return tidy(math.exp(low + share * (high - low)), interval)


def tidy(value: float, interval: Interval) -> float:
    """`value` to `DIGITS` significant digits, inside the interval."""
    return min(max(float(f"{value:.{DIGITS}g}"), interval.low), interval.high)


def tpe_round(
    ranges: Ranges,
    history: Sequence[tuple[Mapping[str, float], float | None]],
    count: int,
    seed: int,
    label: str,
) -> list[dict[str, float]]:
    """`count` suggestions of Optuna's TPE after `history`: a pure function of the arguments."""
    import optuna

    quieten()
    space: dict[str, Any] = {name: distribution(interval) for name, interval in ranges.items()}
    key = stream("kdbench.tpe", seed, label, len(history))
    with experimental():
        # Written out, because Optuna 5 changed these defaults and suggestions must stay. The
        # arguments that are not here are deprecated, and a test holds what they give.
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=ROUND,
            n_ei_candidates=24,
            seed=int(key.generate_state(1)[0]),
            multivariate=True,
            group=False,
            constant_liar=True,
        )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for hparams, score in history:
        # A default may lie outside of what is searched, and TPE cannot look there. A
        # diverged trial counts as the worst possible: left out, it would be tried again.
        values = {n: min(max(float(hparams[n]), ranges[n].low), ranges[n].high) for n in ranges}
        trial = optuna.trial.create_trial(
            params=values, distributions=space, value=0.0 if score is None else score
        )
        study.add_trial(trial)
    asked = [study.ask(fixed_distributions=space).params for _ in range(count)]
    return [{name: tidy(params[name], ranges[name]) for name in ranges} for params in asked]


def distribution(interval: Interval) -> "optuna.distributions.FloatDistribution":
    """The interval as a distribution of Optuna's."""
    import optuna

    return optuna.distributions.FloatDistribution(interval.low, interval.high, log=interval.log)


def is_at_edge(value: float, interval: Interval) -> bool:
    """Whether `value` lies in the first or last `EDGE` of the interval, in the interval's scale."""
    scale = math.log if interval.log else float
    low, high = scale(interval.low), scale(interval.high)
    share = (scale(value) - low) / (high - low)
    return not EDGE <= share <= 1 - EDGE


# -- choice


def shortlist(scores: Mapping[int, Score | None], points: int) -> list[int]:
    """The numbers of the trials that tuning trains again: the default (trial 0) and the best
    `points` others; those that diverged are left out."""
    left = {number: score for number, score in scores.items() if _has_score(score)}
    default = [0] if left.pop(0, None) is not None else []
    others: list[int] = []
    while left and len(others) < points:
        others.append(best(left))
        del left[others[-1]]
    return default + others


def confirmed_best(confirmed: Mapping[int, Sequence[float] | None]) -> int:
    """The number of the trial to use after the second stage, whose scores by trial these are:
    validation scores, one a seed, the same seeds for all.

    The trial with the highest mean, if it beats the default (trial 0) by more than one standard
    error of their paired differences; else the default: what the first stage saw may have been
    luck (the one-standard-error rule of Breiman et al., Classification and Regression Trees,
    1984, applied to paired scores). A trial whose scores are None diverged. Raises `ValueError`
    where no trial is left.
    """
    left = {number: scores for number, scores in confirmed.items() if scores is not None}
    if not left:
        raise ValueError(f"none of {len(confirmed)} trials can be chosen: all diverged")
    first = min(left, key=lambda number: (-float(np.mean(left[number])), number))
    if 0 not in left or first == 0:
        return first
    differences = np.subtract(left[first], left[0])
    error = differences.std(ddof=1) / math.sqrt(len(differences))
    return first if differences.mean() > error else 0


def _has_score(score: Score | None) -> bool:
    return score is not None and math.isfinite(score[0])


def best(finished: Mapping[int, Score | None]) -> int:
    """The number of the best trial: highest score, then lower NLL, then lower number.

    Scores are (the study's score on validation data as a fraction, validation NLL in nats). A
    trial whose score is None, or not finite, diverged. Raises `ValueError` where no
    trial is left.
    """
    order = {
        number: (-score[0], score[1] if math.isfinite(score[1]) else math.inf, number)
        for number, score in finished.items()
        if score is not None and _has_score(score)
    }
    if not order:
        raise ValueError(f"none of {len(finished)} trials can be chosen: all diverged")
    return min(order, key=lambda number: order[number])
