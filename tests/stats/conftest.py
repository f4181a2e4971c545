"""Warnings are errors in all tests of statistics, and their tests run quickly."""

import gc
import warnings

import pytest


@pytest.fixture(autouse=True)
def strict_and_quick(monkeypatch):
    """Make warnings errors, and skip the garbage collection that statsmodels starts at every
    correction."""
    monkeypatch.setattr(gc, "collect", lambda *a: 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
