"""Warnings are errors in all tests of statistics."""

import warnings

import pytest


@pytest.fixture(autouse=True)
def strict():
    """Make warnings errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
