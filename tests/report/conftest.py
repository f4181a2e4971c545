"""What all tests of reports share."""

import gc

import pytest


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Skip the garbage collection that statsmodels starts at every correction, which takes
    most of the time."""
    monkeypatch.setattr(gc, "collect", lambda *a: 0)
