"""Beside a run's result stand the packages that its networks and its data set come from."""

from dataclasses import replace
from importlib.metadata import version
from types import SimpleNamespace

import pytest
from support.run_spec import SPEC

from kdbench.data import DATASETS
from kdbench.execution.messages import MessageHandler
from kdbench.models import MODELS
from kdbench.records.store import Store
from kdbench.report.data.software import software_of
from kdbench.training.events import Finished
from kdbench.training.packages import packages_of


@pytest.fixture
def plugins(monkeypatch):
    """A network and a data set of other packages, which are never imported."""
    for registry, name, package in (
        (MODELS, "other-net", "other-nets"),
        (DATASETS, "other-data", "other-data-sets"),
    ):
        entry = SimpleNamespace(dist=SimpleNamespace(name=package, version="2.1"))
        monkeypatch.setitem(registry._entries, name, entry)


def spec(student="digits-cnn-small", data="digits", **models):
    models = {"student": student, **models}
    return replace(SPEC, models=models, data=replace(SPEC.data, name=data))


def test_a_run_of_kdbench_s_own_parts_names_none():
    assert packages_of(spec()) == {}
    assert packages_of(spec('nets.py:TinyNet{"sha256":"0123456789ab"}')) == {}
    assert packages_of(spec('resnet8{"input":{"size":64}}')) == {}


def test_networks_of_torchvision_and_plug_ins_are_named(plugins):
    own = {"other-nets": "2.1"}
    assert packages_of(spec("other-net")) == {"packages": own}
    assert packages_of(spec('other-net{"input":{"size":64}}', peer="vgg8")) == {"packages": own}
    assert packages_of(spec(data="other-data")) == {"packages": {"other-data-sets": "2.1"}}
    name = 'torchvision:resnet18{"options":{"stem":"small"}}'
    both = {"other-nets": "2.1", "torchvision": version("torchvision")}
    assert packages_of(spec(name, peer="other-net")) == {"packages": both}


def test_the_record_of_a_finished_run_has_them(plugins, tmp_path):
    """As the driver writes it, and as the report reads it."""
    store, run = Store(tmp_path), spec("torchvision:resnet18", "other-data")
    listing = SimpleNamespace(kind="final", name="kd seed 0")
    node = SimpleNamespace(id=run.id, spec=run, listing=listing)
    state = SimpleNamespace(
        store=store,
        end=lambda _: None,
        plan=SimpleNamespace(nodes={run.id: node}),
        tracker=SimpleNamespace(touch=lambda *_: None),
        reporter=SimpleNamespace(log=lambda _: None),
    )
    store.record(run.id).begin(run)
    handler = MessageHandler(state, None, None, SimpleNamespace(requested=False), "cpu")
    handler.handle(Finished(run.id, {"state": "diverged", "diverged_epoch": 1, "id": run.id}, None))
    found = software_of(store, [run.id])
    assert found["torchvision"] == (version("torchvision"),)
    assert found["other-data-sets"] == ("2.1",)
    assert next(iter(found)) == "kdbench"
