"""Weights that somebody else trained: which files are taken, and what is said of the others."""

import pickle

import pytest
import torch
from safetensors.torch import save_file
from support.desk import unseen_digits

from kdbench import models
from kdbench.training.given_weights import BadWeights, fitting_weights, read_weights

MODEL = "digits-cnn-small"


@pytest.fixture(scope="module")
def data():
    return unseen_digits()


@pytest.fixture
def state(data):
    torch.manual_seed(0)
    return models.build(MODEL, data.shape, data.classes).state_dict()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"epoch": 240, "model": s, "best_acc": 79.4},
        lambda s: {"model_state_dict": {f"module.{k}": v for k, v in s.items()}, "optimizer": {}},
        lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()},
        lambda s: {f"_orig_mod.module.{k}": v for k, v in s.items()},
    ],
)
def test_the_usual_files_are_understood(tmp_path, data, state, wrap):
    path = tmp_path / "teacher.pth"
    torch.save(wrap(state), path)
    assert same(fitting_weights(path, MODEL, data), state)


def test_safetensors_are_understood(tmp_path, data, state):
    save_file(state, tmp_path / "teacher.safetensors")
    assert same(fitting_weights(tmp_path / "teacher.safetensors", MODEL, data), state)


def test_a_file_of_before_batch_normalisation_counted_is_taken(tmp_path, data):
    state = models.build("digits-cnn", data.shape, data.classes).state_dict()
    old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")
    assert set(fitting_weights(tmp_path / "old.pth", "digits-cnn", data)) == set(state)


def test_what_does_not_fit_is_listed(tmp_path, data, state):
    path = tmp_path / "other.pth"
    names = list(state)
    changed = dict(state)
    changed["backbone.extra"] = changed.pop(names[0])
    changed[names[-1]] = torch.zeros(100)
    torch.save(changed, path)
    with pytest.raises(BadWeights) as error:
        fitting_weights(path, MODEL, data)
    text = str(error.value)
    assert f"does not hold the weights of {MODEL} for 10 classes" in text
    assert f"missing: {names[0]}" in text
    assert "not of this network: backbone.extra" in text
    assert f"of another shape: {names[-1]} is 100 in the file and 10 in {MODEL}" in text


@pytest.mark.parametrize("count", [2, 1000])
def test_a_teacher_of_other_classes_is_refused_with_both_counts(tmp_path, data, count):
    torch.save(models.build(MODEL, data.shape, count).state_dict(), tmp_path / "x.pth")
    with pytest.raises(BadWeights, match=f"tells {count} classes apart, and digits has 10;"):
        fitting_weights(tmp_path / "x.pth", MODEL, data)


def test_values_that_are_no_numbers_are_refused(tmp_path, data, state):
    name = next(iter(state))
    state[name] = torch.full_like(state[name], float("nan"))
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(BadWeights, match=f"no finite numbers: {name}"):
        fitting_weights(tmp_path / "nan.pth", MODEL, data)


class Runs:
    """What a hostile pickle does when it is read."""

    def __reduce__(self):
        return (open, ("ran", "w"))


def test_nothing_in_a_file_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Runs()}, tmp_path / "hostile.pth")
    with pytest.raises(BadWeights, match="Save the state dict alone"):
        read_weights(tmp_path / "hostile.pth")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Runs()))
    with pytest.raises(BadWeights):
        read_weights(tmp_path / "plain.pkl")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 cut"])
@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_files_of_anything_else_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadWeights, match=f"{name} "):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1], torch.zeros(3), {"model": {"x": 1}}])
def test_files_without_a_state_dict_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(BadWeights, match="holds no state dict"):
        read_weights(tmp_path / "x.pth")
