"""What the methods that read classifiers and batch normalisations compute, against their formula
written out, and their published defaults."""

import dataclasses

import pytest
import torch
from support.terms import Run, same
from torch.nn import functional as F

from kdbench import losses, models
from kdbench.methods import METHODS, Incompatible
from kdbench.methods.types import Progress
from kdbench.testing import fakes

WIDER = "wider, larger, deeper"
DEFAULTS = {
    "srrl": {"beta": 1.0, "logit_weight": 1.0, "stages": "stage?"},
    "ofd": {"beta": 1e-3, "stages": "stage?_pre"},
    "cat-kd": {"beta": 15.0, "resolution": 2, "normalised": 0, "stages": "stage?"},
    "sdd-kd": {"temperature": 4.0, "alpha": 0.9, "scales": 3, "stages": "stage?"},
    "sdd-dkd": {
        "temperature": 4.0,
        "target_weight": 1.0,
        "non_target_weight": 8.0,
        "warmup": 1 / 12,
        "scales": 3,
        "stages": "stage?",
    },
    "wkd-l": {
        "temperature": 8.0,
        "target_weight": 1.0,
        "soft_weight": 600.0,
        "sharpness": 1.0,
        "regularisation": 0.05,
        "iterations": 10,
        "decay": 0.625,
    },
}


@pytest.mark.parametrize("key", DEFAULTS)
def test_published_defaults(key):
    assert dataclasses.asdict(METHODS[key]()) == DEFAULTS[key]


def check_task(run, weight=1.0):
    same(run.terms["task"], weight * F.cross_entropy(run.logits[0], run.labels))


def classifier(run, role="teacher"):
    parameters = run.out[role].parameters
    return parameters["classifier.weight"], parameters["classifier.bias"]


@pytest.mark.parametrize(
    ("teacher", "layer"), [(fakes.SAME, "embedding"), ("narrower, smaller", "stage2")]
)
def test_srrl_answers_through_the_teachers_classifier(teacher, layer):
    """The classifier of the smaller teacher reads the mean of its last stage."""
    run = Run("srrl", teacher=teacher, beta=3.0, logit_weight=5.0)
    assert run.helpers["connector"].layer == layer
    maps = run.out["student"].features[layer]
    maps = maps[:, :, None, None] if maps.dim() == 2 else maps
    conv, norm = run.helpers["connector"].projector[0]
    r = F.relu(norm(F.conv2d(maps, conv.weight))).mean(dim=(2, 3))
    same(run.terms["representation"], 3 * (r - run.features("embedding")[1]).square().mean())
    logits = F.linear(r, *classifier(run))
    same(run.terms["logits"], 5 * (logits - run.logits[1]).square().mean())
    check_task(run)
    run.terms["logits"].backward()
    assert all(p.grad is None for p in classifier(run))


@pytest.mark.parametrize("teacher", fakes.TEACHERS)
def test_ofd_weighs_late_stages_more(teacher):
    run = Run("ofd", teacher=teacher, beta=3.0)
    total = 0
    for weight, name in ((0.5, "stage1_pre"), (1.0, "stage2_pre")):
        student, target = run.features(name)
        parameters = run.out["teacher"].parameters
        margin = losses.margins(parameters[f"{name}.weight"], parameters[f"{name}.bias"])
        connected = run.helpers[name](student)
        total = total + weight * losses.partial_l2(connected, target, margin)
    same(run.terms["representation"], 3 * total)
    check_task(run)


def test_ofd_needs_the_teachers_batch_normalisation():
    method = METHODS["ofd"]()
    sizes = fakes.shapes(method)
    bare = {"teacher": {"classifier.weight": (5, 24)}}
    with pytest.raises(Incompatible, match=r"needs the parameter stage1_pre.weight of the teacher"):
        method.helpers(dataclasses.replace(sizes, parameters=bare))


def maps_of(run, role):
    """Of a network whose classifier reads a flattened map of 2x2 positions, or the mean."""
    weight, _ = classifier(run, role)
    features = run.out[role].features
    channels = features["stage2"].shape[1]
    if weight.shape[1] == channels:
        return losses.class_maps(features["stage2"], weight)
    return losses.class_maps(features["embedding"].view(-1, channels, 2, 2), weight)


@pytest.mark.parametrize("teacher", [fakes.SAME, "narrower, smaller"])
def test_cat_kd_compares_class_maps(teacher):
    run = Run("cat-kd", teacher=teacher, beta=3.0, resolution=2, normalised=1)
    pair = [maps_of(run, role) for role in ("student", "teacher")]
    expected = losses.class_map_mse(*pair, 2, True)
    same(run.terms["representation"], 3 * fakes.C / 100 * expected)
    check_task(run)
    run.terms["representation"].backward()
    assert classifier(run, "student")[0].grad.any()
    assert classifier(run)[0].grad is None


@pytest.mark.parametrize("teacher", [fakes.SAME, "narrower, smaller"])
def test_sdd_kd_compares_regions(teacher):
    run = Run("sdd-kd", teacher=teacher, temperature=2.0, alpha=0.3, scales=2)
    pair = [
        losses.region_logits(maps_of(run, role), classifier(run, role)[1], (1, 2))
        for role in ("student", "teacher")
    ]
    same(run.terms["soft"], 0.3 * 4 * losses.region_kl(*pair, run.labels, 2.0))
    check_task(run, 0.7)


@pytest.mark.parametrize(("done", "ramp"), [(0.1, 0.5), (0.2, 1), (1.0, 1)])
def test_sdd_dkd_decouples_the_regions(done, ramp):
    setting = {"target_weight": 3.0, "non_target_weight": 5.0, "warmup": 0.2, "scales": 2}
    run = Run("sdd-dkd", Progress(0.0, done, 0.0), temperature=2.0, **setting)
    pair = [
        losses.region_logits(maps_of(run, role), classifier(run, role)[1], (1, 2))
        for role in ("student", "teacher")
    ]
    target, rest = losses.region_decoupled_kl(*pair, run.labels, 2.0)
    same(run.terms["target"], ramp * 3 * 4 * target)
    same(run.terms["non_target"], ramp * 5 * 4 * rest)
    check_task(run)


@pytest.mark.parametrize("key", ["cat-kd", "sdd-kd", "sdd-dkd"])
def test_a_classifier_that_reads_another_layer_is_refused(key):
    method = METHODS[key]()
    with pytest.raises(Incompatible, match="the classifier of the teacher reads 16 values"):
        method.helpers(fakes.shapes(method, WIDER))


@pytest.mark.parametrize(
    ("step", "decay", "share"),
    [(0.0, 0.5, 1), (0.5, 0.5, 1), (0.75, 0.5, 0.5), (1.0, 0.5, 0), (0.9, 1.0, 1)],
)
def test_wkd_l_measures_costs_by_the_teachers_classifier_and_decays(step, decay, share):
    """The label's term keeps its weight, as in the authors' code."""
    setting = {"temperature": 2.0, "regularisation": 0.1, "iterations": 5}
    weights = {"target_weight": 3.0, "soft_weight": 5.0, "decay": decay}
    run = Run("wkd-l", Progress(0.0, 0.1, step), sharpness=2.0, **weights, **setting)
    costs = losses.class_costs(classifier(run)[0], 2.0)
    sides = *run.logits, run.labels
    distance = losses.wasserstein_of_others(*sides, costs, *setting.values())
    same(run.terms["soft"], share * 5 * distance)
    same(run.terms["target"], 3 * losses.normalised_cross_entropy(*sides)[0])
    check_task(run)


def test_wkd_l_is_tuned_among_all_published_weights():
    """Those of the authors for ImageNet, for WRN40-2 to ShuffleNetV1 and for resnet32x4."""
    searched = METHODS["wkd-l"].searched()["soft_weight"]
    assert all(searched.low < weight < searched.high for weight in (30, 200, 600))


@pytest.mark.parametrize("name", ["resnet8x4", "wrn-16-1", "digits-cnn"])
def test_the_zoo_offers_classifiers_and_norms(name):
    shape = (1, 8, 8)
    network = models.with_features(models.build(name, shape, 10), ["stage1_pre", "embedding"])
    output = network(torch.randn(4, *shape))
    parameters, sizes = output.parameters, models.parameter_shapes(name, shape, 10)
    assert {n: tuple(p.shape) for n, p in parameters.items()} == sizes
    logits = F.linear(
        output.features["embedding"], *(parameters[f"classifier.{p}"] for p in ("weight", "bias"))
    )
    torch.testing.assert_close(logits, output.logits)
    channels = output.features["stage1_pre"].shape[1]
    assert sizes["stage1_pre.weight"] == sizes["stage1_pre.bias"] == (channels,)
    last = {"digits-cnn": "stage2_pre"}.get(name, "stage3_pre")
    assert f"{last}.weight" in sizes


def test_a_model_without_batch_normalisation_offers_its_classifier_alone():
    assert set(models.parameter_shapes("digits-cnn-small", (1, 8, 8), 10)) == {
        "classifier.weight",
        "classifier.bias",
    }
