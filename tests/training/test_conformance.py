"""Every method of the registry in training: the checks that an outside package runs."""

import pytest

from kdbench.methods import METHODS
from kdbench.testing.report import run_checks
from kdbench.testing.training import Diverges, Raises, Runs, other_run, training_checks


@pytest.mark.parametrize("key", METHODS)
def test_training(world, key):
    run_checks(key, training_checks(world, key))


#: One of each kind: labels, teacher, helpers, phases, peers, views, an earlier self, branches,
#: a chain of teachers, several teachers.
KINDS = ("ce", "kd", "hint", "ab", "dml", "kdcl", "ps-kd", "byot", "takd", "ensemble")


@pytest.mark.parametrize(
    "keys", [KINDS, pytest.param(tuple(METHODS), marks=pytest.mark.long)], ids=["kinds", "all"]
)
def test_many_methods_in_one_cohort(world, keys):
    """Beside one that raises and one that diverges, every run is as it is alone."""
    runs = {key: Runs(world, key) for key in keys}
    jobs = {key: each.job() for key, each in runs.items()}
    raises, diverges = (other_run(jobs["ce"], kind) for kind in (Raises, Diverges))
    every = list(jobs.values())
    outcomes = world.train(raises, *every[::2], diverges, *every[1::2])
    for key, job in jobs.items():
        alone = world.alone(job)
        assert outcomes[job.spec.id].weights == alone.weights, key
        assert outcomes[job.spec.id].metrics == alone.metrics, key
        assert outcomes[job.spec.id].result == alone.result, key
    failed, ended = outcomes[raises.spec.id], outcomes[diverges.spec.id]
    assert failed.finished is None
    assert "meant to fail" in failed.failed.error["message"]
    assert "Traceback" in failed.failed.error["traceback"]
    assert ended.failed is None
    assert ended.result["state"] == "diverged"
    assert ended.result["diverged_epoch"] == 2
    assert ended.finished.weights is None
    assert [row["epoch"] for row in ended.rows] == [1, 2]
    assert "train.loss" in ended.rows[0]
    assert "train.loss" not in ended.rows[1]
