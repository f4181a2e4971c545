"""Reference values of the losses that read classifiers and batch normalisations."""

import pytest
import torch
from support.golden import CASES, Inputs, check_case
from torch.func import functional_call
from torch.nn import functional as F

from kdbench import losses
from kdbench.methods.heads import ReusedClassifier, bottleneck
from kdbench.methods.projections import conv_bn
from kdbench.models.output import Output

ROLES = "student", "teacher"


def maps(x: Inputs, suffix: str = "") -> list[torch.Tensor]:
    weights = [x[f"parameter:{role}_classifier{suffix}"].flatten(1) for role in ROLES]
    return [losses.class_maps(x[r], w) for r, w in zip(ROLES, weights, strict=True)]


def cat_kd(x: Inputs) -> torch.Tensor:
    return losses.class_map_mse(*maps(x), x.arguments["resolution"], x.arguments["normalise"])


def regions(x: Inputs) -> list[torch.Tensor]:
    scales = tuple(x.arguments["scales"])
    biases = [x[f"parameter:{role}_classifier_bias"] for role in ROLES]
    pairs = zip(maps(x, "_weight"), biases, strict=True)
    return [losses.region_logits(m, b, scales) for m, b in pairs]


def sdd_kd(x: Inputs) -> torch.Tensor:
    return 16 * losses.region_kl(*regions(x), x["labels"], x.arguments["temperature"])


def sdd_dkd(x: Inputs) -> torch.Tensor:
    arguments = x.arguments
    target, rest = losses.region_decoupled_kl(*regions(x), x["labels"], arguments["temperature"])
    return 16 * (arguments["alpha"] * target + arguments["beta"] * rest)


def wkd_l(x: Inputs) -> torch.Tensor:
    arguments = x.arguments
    sides = x["student"], x["teacher"], x["labels"]
    distance = losses.wasserstein_of_others(
        *sides,
        losses.class_costs(x["parameter:teacher_classifier"]),
        arguments["temperature"],
        arguments["sinkhorn_lambda"],
        arguments["sinkhorn_iterations"],
    )
    return losses.normalised_cross_entropy(*sides)[0] + arguments["weight"] * distance


def norm_before_the_activation() -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and shift as the case's note describes them."""
    i = torch.arange(12).double()
    weight, bias = 1 + 0.5 * i.cos(), 2 * i.sin()
    weight[3], bias[3] = 1, 6
    return weight, bias


def ofd(x: Inputs) -> torch.Tensor:
    margin = losses.margins(*norm_before_the_activation())
    return losses.partial_l2(x["student"], x["teacher"], margin)


def srrl(x: Inputs) -> torch.Tensor:
    names = {
        "0.weight": "connector",
        "1.weight": "connector_bn_weight",
        "1.bias": "connector_bn_bias",
    }
    parts = {name: x[f"parameter:{key}"] for name, key in names.items()}
    vector = functional_call(conv_bn(12, 20), parts, x["student_map"]).relu().mean(dim=(2, 3))
    classifier = (x[f"parameter:teacher_classifier_{part}"] for part in ("weight", "bias"))
    target = x["teacher_map_wide"].mean(dim=(2, 3))
    logits = losses.logit_mse(F.linear(vector, *classifier), x["teacher_logits"])
    return losses.feature_mse(vector, target) + logits


def reused_classifier(x: Inputs) -> ReusedClassifier:
    head = ReusedClassifier("map", bottleneck(6, 20, x.arguments["factor"]), (4, 4), (10, 20))
    return head.double()


def simkd_answer(x: Inputs) -> Output:
    """The map and the logits of the student with the parameters of the case."""
    parts = {}
    for k in range(3):
        parts[f"projector.{2 * k}.0.weight"] = x[f"parameter:conv{k + 1}"]
        for part in ("weight", "bias"):
            parts[f"projector.{2 * k}.1.{part}"] = x[f"parameter:bn{k + 1}_{part}"]
    for part in ("weight", "bias"):
        parts[part] = x[f"parameter:teacher_classifier_{part}"]
    return functional_call(reused_classifier(x), parts, ({"map": x["student"]}, {}))


def simkd(x: Inputs) -> torch.Tensor:
    return losses.feature_mse(simkd_answer(x).features["projected"], x["teacher"])


COMPUTE = {
    "cat-kd:resolution=2,raw": cat_kd,
    "cat-kd:resolution=4,normalised": cat_kd,
    "sdd-kd:scales=1+2,T=4": sdd_kd,
    "sdd-dkd:scales=1+2,alpha=1,beta=8,T=4": sdd_dkd,
    "wkd-l:T=4,weight=1": wkd_l,
    "ofd:no-connector": ofd,
    "srrl": srrl,
    "simkd:factor=2": simkd,
}
#: What the names of the cases in this file begin with.
FAMILIES = ("cat-kd", "sdd-kd", "sdd-dkd", "wkd-l", "ofd", "srrl", "simkd")


def test_every_case_is_computed():
    assert COMPUTE.keys() == {case for case in CASES if case.split(":")[0] in FAMILIES}


@pytest.mark.parametrize("case", COMPUTE)
def test_reference(case):
    check_case(case, COMPUTE[case])


def test_margins():
    margin = losses.margins(*norm_before_the_activation())
    for values in CASES["ofd:no-connector"]["values"]:
        assert margin.tolist() == pytest.approx(values["margin"], rel=1e-6)


def test_the_students_answer_with_the_reused_classifier():
    case = CASES["simkd:factor=2"]
    for values in case["values"]:
        logits = simkd_answer(Inputs(case, values["seed"], values["scale"])).logits
        assert logits.norm().item() == pytest.approx(values["logits_norm"], rel=1e-6)
