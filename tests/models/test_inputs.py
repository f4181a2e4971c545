"""Networks that see other images than the study's: another size, another normalisation."""

import pytest
import torch
from support.desk import Desk, study_of, unseen_digits
from torch import nn
from torchvision.transforms.v2 import functional as transforms

from kdbench import models
from kdbench.models.inputs import with_input_layer
from kdbench.models.names import NetworkInput, with_input, without_input
from kdbench.study.load import StudyError
from kdbench.study.plan_file import study_hash

SHAPE, CLASSES = (3, 8, 8), 10
MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.25])
OWN_MEAN, OWN_STD = torch.tensor([0.1, 0.2, 0.6]), torch.tensor([1.0, 0.5, 2.0])
BOTH = NetworkInput(
    12, tuple((STD / OWN_STD).tolist()), tuple(((MEAN - OWN_MEAN) / OWN_STD).tolist())
)


def of_channels(values):
    return values.double().view(1, -1, 1, 1)


@pytest.mark.parametrize("size", [12, 4])
@pytest.mark.parametrize("name", ["digits-cnn", "resnet8", "torchvision:squeezenet1_1"])
def test_the_network_sees_its_own_images(name, size):
    if name.startswith("torchvision"):
        size *= 8
    torch.manual_seed(0)
    pixels = torch.rand(5, *SHAPE, dtype=torch.float64)
    given = NetworkInput(size, BOTH.scale, BOTH.shift)
    theirs = transforms.resize(pixels, [size, size], antialias=True)
    theirs = (theirs - of_channels(OWN_MEAN)) / of_channels(OWN_STD)
    plain = models.build(name, (3, size, size), CLASSES).eval()
    other = models.build(with_input(name, given), SHAPE, CLASSES).eval()
    other.load_state_dict(plain.state_dict())  # the names are the same
    assert other.nodes == plain.nodes
    images = ((pixels - of_channels(MEAN)) / of_channels(STD)).float()
    layers = sorted(set(plain.nodes) - {"logits"})
    with torch.no_grad():
        expected = models.with_features(plain, layers)(theirs.float())
        found = models.with_features(other, layers)(images)
    torch.testing.assert_close(other(images), expected.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-4)
    for layer in layers:
        torch.testing.assert_close(
            found.features[layer], expected.features[layer], rtol=1e-4, atol=1e-4
        )
    shapes = models.feature_shapes(with_input(name, given), SHAPE, CLASSES)
    assert shapes == models.feature_shapes(name, (3, size, size), CLASSES)
    assert models.macs(with_input(name, given), SHAPE, CLASSES) == models.macs(
        name, (3, size, size), CLASSES
    )


def test_a_plain_sequence_of_layers_sees_its_own_images_once():
    torch.manual_seed(0)
    images = torch.rand(5, *SHAPE)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 100, 10))
    names = list(plain.state_dict())
    theirs = torch.nn.functional.interpolate(images, (12, 12), mode="bilinear", antialias=True)
    expected = plain(theirs * torch.tensor(BOTH.scale).view(1, -1, 1, 1)
                     + torch.tensor(BOTH.shift).view(1, -1, 1, 1))  # fmt: skip
    other = with_input_layer(plain, BOTH)
    torch.testing.assert_close(other(images), expected, rtol=1e-5, atol=1e-5)
    assert list(other.state_dict()) == names


@pytest.mark.parametrize("name", ["resnet8", "torchvision:resnet18", 'n.py:N{"options":{"a":1}}'])
def test_a_name_says_what_its_network_sees(name):
    assert without_input(name) == (name, None)
    assert without_input(with_input(name, BOTH)) == (name, BOTH)
    assert with_input(with_input(name, NetworkInput(4)), BOTH) == with_input(name, BOTH)


def test_a_size_that_the_network_cannot_take_is_refused():
    with pytest.raises(models.BrokenModel, match="images of 3x2x2"):
        models.build(with_input("resnet8", NetworkInput(2)), SHAPE, CLASSES)


# -- in a study


def planner(tmp_path, **teacher):
    study = study_of("ce", "kd", teacher={"model": "digits-cnn", **teacher})
    return Desk(tmp_path, unseen_digits()).planner(study)


def test_a_teacher_of_another_size_is_another_teacher_and_the_labels_alone_stay(tmp_path):
    plain, large = planner(tmp_path).plan(), planner(tmp_path, size=16).plan()
    assert not set(plain.teachers.values()) & set(large.teachers.values())
    runs = [{row.label: row.runs for row in plan.rows} for plan in (plain, large)]
    assert runs[0]["ce"] == runs[1]["ce"]
    assert set(runs[0]["kd"].values()).isdisjoint(runs[1]["kd"].values())


def test_what_the_data_make_of_it_is_no_part_of_the_study_s_hash(tmp_path):
    study = study_of("ce", "kd", teacher={"model": "digits-cnn", "size": 16})
    planned = Desk(tmp_path, unseen_digits()).planner(study).study
    assert planned.teacher.model != study.teacher.model
    assert study_hash(planned) == study_hash(study)
    assert study_hash(study) != study_hash(study_of("ce", "kd"))


def test_another_number_of_channels_is_refused(tmp_path):
    (tmp_path / "w.pth").touch()
    with pytest.raises(StudyError, match="3 values, and the images of digits have 1 channels"):
        planner(
            tmp_path,
            weights=str(tmp_path / "w.pth"),
            normalise={"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]},
        )


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({"normalise": {"mean": [0.5], "std": [0.5]}}, "it stands beside weights"),
        ({"normalise": {"mean": [0.5], "std": [0.5, 1]}}, "1 values in mean and 2 in std"),
        ({"normalise": {"mean": [0.5], "std": [0]}}, "greater than 0"),
        ({"normalise": {"mean": [0.5], "sdt": [1]}}, "did you mean 'std'"),
        ({"size": 2}, "greater than or equal to 4"),
    ],
)
def test_what_cannot_be_is_said(tmp_path, teacher, message):
    with pytest.raises(StudyError, match=message):
        planner(tmp_path, **teacher)
