"""What a run is called, where its random numbers come from, and how its record is kept."""

import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.run_spec import SPEC, row

from kdbench.methods import METHODS
from kdbench.records import store
from kdbench.records.files import atomic_write, read_json, write_json
from kdbench.records.spec import RunSpec, canonical, digest
from kdbench.records.store import RecordBusy, Store
from kdbench.study.schema import RecipePart
from kdbench.training import seeds

# -- the id


def test_the_id_of_one_spec_is_fixed():
    """Records on disk are found by it: a change here orphans everybody's runs."""
    assert SPEC.id == "f44977b294bb"
    assert len(SPEC.id) == 12
    assert set(SPEC.id) <= set("0123456789abcdef")


def test_the_id_does_not_depend_on_the_order_of_keys():
    turned = replace(SPEC, hparams=dict(reversed(SPEC.hparams.items())))
    assert list(turned.hparams) != list(SPEC.hparams)
    assert turned.id == SPEC.id


def test_the_id_does_not_depend_on_how_numbers_are_written():
    spelled = [METHODS["kd"](temperature=t, alpha=a) for t, a in ((4, 1), (4.0, 1.0), ("4", "1e0"))]
    hparams = [dataclasses.asdict(method) for method in spelled]
    assert len({replace(SPEC, hparams=k).id for k in hparams}) == 1
    recipes = [
        RecipePart.model_validate({"epochs": 3, "batch": 8, "lr": lr, "weight_decay": decay})
        for lr, decay in ((1, "5e-4"), (1.0, 0.0005), ("1", "0.0005"))
    ]
    assert len({replace(SPEC, recipe=r.resolve()).id for r in recipes}) == 1


def test_what_does_not_act_is_not_in_the_id():
    plain = {"epochs": 3, "batch": 8, "lr": 0.1}
    adam = [RecipePart(**plain, momentum=m, gamma=g) for m, g in ((0.9, 0.1), (0.5, 0.2))]
    assert adam[0].resolve() == adam[1].resolve()
    sgd = [RecipePart(**plain, optimizer="sgd", momentum=m) for m in (0.9, 0.5)]
    assert sgd[0].resolve() != sgd[1].resolve()


def changed(value):
    """Another value of the same kind."""
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, tuple):
        return (*value, 0.9)
    if isinstance(value, dict):
        return {**value, "more": 1}
    return value + 1


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(RunSpec)])
def test_each_field_is_in_the_id(name):
    value = getattr(SPEC, name)
    if dataclasses.is_dataclass(value):
        for part in dataclasses.fields(value):
            inner = replace(value, **{part.name: changed(getattr(value, part.name))})
            assert replace(SPEC, **{name: inner}).id != SPEC.id, part.name
    else:
        assert replace(SPEC, **{name: changed(value)}).id != SPEC.id


def test_a_small_change_of_a_number_is_another_run():
    nearby = replace(SPEC, hparams={**SPEC.hparams, "alpha": np.nextafter(0.9, 1).item()})
    assert nearby.id != SPEC.id


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_none_is_refused(bad):
    with pytest.raises(ValueError, match="not JSON compliant"):
        _ = replace(SPEC, hparams={"alpha": bad}).id
    with pytest.raises(ValueError, match="finite"):
        METHODS["kd"](alpha=bad)


def test_a_spec_comes_back_from_json_as_it_was():
    back = RunSpec.from_dict(json.loads(json.dumps(dataclasses.asdict(SPEC))))
    assert back == SPEC
    assert back.id == SPEC.id
    assert RunSpec.from_dict(json.loads(SPEC.canonical())) == SPEC


def test_an_id_is_the_same_in_another_process():
    code = (
        "import sys, json; from kdbench.records.spec import RunSpec;"
        "print(RunSpec.from_dict(json.load(sys.stdin)).id, 'torch' in sys.modules)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        input=SPEC.canonical(),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert process.stdout.split() == [SPEC.id, "False"]


def test_canonical_json_is_sorted_and_dense():
    assert canonical({"b": [1.0, 2], "a": "x"}) == '{"a":"x","b":[1.0,2]}'
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})


# -- the streams


def drawn(spec: RunSpec, *key) -> list[float]:
    return seeds.stream(spec, *key).random(4).tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"method": "rkd"},
        {"hparams": {}},
        {"version": 2},
        {"origin": "elsewhere==1"},
        {"frozen_runs": {}},
        {"frozen_epoch": "best"},
        {"models": {**SPEC.models, "assistant": "digits-cnn-medium"}},
        {"recipe": replace(SPEC.recipe, lr=1.0, epochs=3, optimizer="sgd", precision="bf16")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_streams_are_paired_across(change):
    for key in (("order",), ("weights", "student"), ("views0", "", 3), ("dropout", "student", 1)):
        assert drawn(SPEC, *key) == drawn(replace(SPEC, **change), *key)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"lineage": 1},
        {"models": {"student": "digits-cnn"}},
        {"data": replace(SPEC.data, checksum="f" * 12)},
        {"data": replace(SPEC.data, name="mnist")},
    ],
    ids=["seed", "lineage", "model", "images", "data set"],
)
def test_streams_differ_between(change):
    for key in (("order",), ("weights", "student"), ("views0", "", 3)):
        assert not set(drawn(SPEC, *key)) & set(drawn(replace(SPEC, **change), *key))


def test_streams_differ_by_purpose_role_and_epoch():
    keys = [
        ("order",),
        ("views0",),
        ("views1",),
        ("method",),
        ("weights", "student"),
        ("weights", "peer1"),
        ("weights", "helpers"),
        ("dropout", "student"),
        ("dropout", "peer1"),
        ("order", "", 1),
        ("order", "", 2),
    ]
    numbers = [x for key in keys for x in drawn(SPEC, *key)]
    assert len(set(numbers)) == len(numbers)


def test_streams_look_random():
    """Neighbouring seeds and epochs are as good as unrelated."""
    many = [
        seeds.stream(replace(SPEC, seed=s), "order", epoch=e).random()
        for s in range(40)
        for e in range(40)
    ]
    assert abs(np.mean(many) - 0.5) < 4 * np.sqrt(1 / 12 / 1600)
    table = np.array(many).reshape(40, 40)
    assert abs(np.corrcoef(table[:-1].ravel(), table[1:].ravel())[0, 1]) < 4 / np.sqrt(1560)


def test_torch_generators_follow_their_stream():
    def draw(epoch):
        generator = torch.Generator()
        seeds.seed_torch(generator, seeds.stream(SPEC, "method", epoch=epoch))
        return torch.rand(3, generator=generator)

    one, same, other = (draw(e) for e in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert all(0 <= n < 2**63 for n in seeds.integers(seeds.stream(SPEC, "method"), 100))


# -- files


@pytest.fixture
def record(tmp_path):
    return Store(tmp_path).record(SPEC.id)


def crash(*_):
    raise OSError("no space left on device")


@pytest.mark.parametrize("at", ["fsync", "replace"])
def test_a_crash_while_writing_leaves_the_old_file_and_no_half_one(tmp_path, monkeypatch, at):
    path = tmp_path / "deep" / "file.json"
    atomic_write(path, b"old")
    with monkeypatch.context() as patch:
        if at == "fsync":
            patch.setattr(store.os, "fsync", crash)
        else:
            patch.setattr(store.Path, "replace", crash)
        with pytest.raises(OSError, match="no space"):
            atomic_write(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]
    atomic_write(path, b"new")
    assert path.read_bytes() == b"new"


def test_json_comes_back_and_an_absent_file_is_none(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, 0.1], "a": None})
    assert read_json(tmp_path / "a.json") == {"b": [1, 0.1], "a": None}
    assert read_json(tmp_path / "none.json") is None


def test_a_record_knows_its_spec(record):
    assert record.spec() is None
    record.begin(SPEC)
    assert record.spec() == SPEC
    before = (record.folder / "spec.json").stat().st_mtime_ns
    record.begin(SPEC)
    assert (record.folder / "spec.json").stat().st_mtime_ns == before


def test_repeated_epochs_replace_the_first(record):
    record.add_epochs([row(1, 0.1), row(2, 0.2)], b"two")
    record.add_epochs([row(3, 0.3), row(4, 0.4)], None)
    assert record.checkpoint() == b"two"
    record.add_epochs([row(3, 0.35)], b"three")
    assert record.epochs() == [row(1, 0.1), row(2, 0.2), row(3, 0.35)]
    assert record.checkpoint() == b"three"
    record.add_epochs([], None)
    assert len(record.epochs()) == 3


def test_a_crash_between_metrics_and_checkpoint_loses_no_epoch(record, monkeypatch):
    """Repeated epochs are replaced; epochs that only a checkpoint knows of are gone."""
    record.add_epochs([row(1)], b"1")
    real, written = store.atomic_write, []

    def once(path, content):
        if written:
            crash()
        written.append(path.name)
        real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(store, "atomic_write", once)
        with pytest.raises(OSError, match="no space"):
            record.add_epochs([row(2), row(3)], b"3")
    done = int(record.checkpoint())
    record.add_epochs([row(e) for e in range(done + 1, 5)], b"4")
    assert [r["epoch"] for r in record.epochs()] == [1, 2, 3, 4]


def test_a_finished_record_has_no_checkpoint_and_no_error(record):
    record.begin(SPEC)
    record.add_epochs([row(1)], b"state")
    record.fail({"message": "it broke"})
    assert record.error == {"message": "it broke"}
    assert record.result is None
    record.finish({"id": SPEC.id, "state": "done"}, b"weights")
    assert record.result == {"id": SPEC.id, "state": "done"}
    assert record.weights_path.read_bytes() == b"weights"
    assert record.checkpoint() is None
    assert record.error is None
    assert record.epochs() == [row(1)]


def test_a_crash_before_the_result_leaves_the_run_unfinished(record, monkeypatch):
    record.add_epochs([row(1)], b"state")
    with monkeypatch.context() as patch:
        patch.setattr(store, "write_json", crash)
        with pytest.raises(OSError, match="no space"):
            record.finish({"state": "done"}, b"weights")
    assert record.result is None
    assert record.checkpoint() == b"state"


def test_a_crash_while_scoring_leaves_the_test_set_sealed(record, monkeypatch):
    record.begin(SPEC)
    arrays = {"labels": np.arange(3), "last": np.zeros((3, 2), np.float32)}
    with monkeypatch.context() as patch:
        patch.setattr(store, "write_json", crash)
        with pytest.raises(OSError, match="no space"):
            record.score({"last": {}}, arrays)
    assert record.test is None
    record.score({"last": {}}, arrays)
    assert record.test == {"last": {}}
    assert record.predictions().keys() == arrays.keys()


def test_a_second_writer_is_refused_and_told_which_run(record):
    with record.writing(), pytest.raises(RecordBusy, match=SPEC.id), record.writing():
        pass
    with record.writing() as held:
        assert held is record


def test_a_writer_that_failed_lets_go(record):
    with pytest.raises(ZeroDivisionError), record.writing():
        raise ZeroDivisionError
    with record.writing():
        pass


def test_another_process_that_writes_is_refused_too(record):
    code = (
        "import sys; from pathlib import Path\n"
        "from kdbench.records.store import Record, RecordBusy\n"
        "try:\n"
        "    with Record(Path(sys.argv[1])).writing(): print('wrote')\n"
        "except RecordBusy: print('busy')"
    )

    def other() -> str:
        command = [sys.executable, "-c", code, str(record.folder)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    with record.writing():
        assert other() == "busy"
    assert other() == "wrote"
