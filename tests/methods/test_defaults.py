"""The defaults of every method, against the table of what was published."""

from pathlib import Path

import pytest
import yaml

from kdbench.methods import BUILTIN

PUBLISHED = yaml.safe_load(
    (Path(__file__).parents[1] / "fixtures" / "published_defaults.yaml").read_text()
)


def test_the_table_has_every_method():
    assert PUBLISHED.keys() == BUILTIN.keys()
    assert all(entry["source"].strip() for entry in PUBLISHED.values())


@pytest.mark.parametrize("key", BUILTIN)
def test_defaults_are_the_published(key):
    method = BUILTIN[key]()
    numbers = {
        name: value
        for name in method.hparams()
        if not isinstance(value := getattr(method, name), str)
    }
    assert numbers == pytest.approx(PUBLISHED[key]["values"])
