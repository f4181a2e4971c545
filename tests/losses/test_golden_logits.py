"""Values and gradient norms of the authors' code: losses on class distributions and logits."""

import numpy as np
import pytest
import torch
from support.golden import CASES, Inputs, check_case
from torch.nn import functional as F

from kdbench import losses

#: The temperatures of MLKD's released code.
TEMPERATURES = (4.0, 3.0, 5.0, 2.0, 6.0)


def logits(x: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
    return x["student_logits"], x["teacher_logits"]


def nkd(x):
    a = x.arguments
    target, non_target = losses.normalised_cross_entropy(*logits(x), x["labels"], a["temperature"])
    return target + a["gamma"] * a["temperature"] ** 2 * non_target


def dist(x):
    a = x.arguments
    inter, intra = losses.correlation_distance(*logits(x), a["tau"])
    return a["tau"] ** 2 * (a["beta"] * inter + a["gamma"] * intra)


def ls_kd(x):
    temperature = x.arguments["temperature"]
    pair = (losses.standardise(z) for z in logits(x))
    return temperature**2 * losses.kl(*pair, temperature)


def ctkd(x):
    a = x.arguments
    raw = torch.tensor(a["raw"], dtype=torch.float64)
    return losses.tempered_kl(*logits(x), a["t_start"] + a["t_end"] * raw.sigmoid())


def tf_kd_reg(x):
    a, (student, _) = x.arguments, logits(x)
    target = losses.virtual_teacher(
        x["labels"], 10, a["correct_probability"], a["temperature"], student
    )
    soft = a["multiplier"] / 10 * losses.kl_to_log_probs(student, target)
    return (1 - a["alpha"]) * F.cross_entropy(student, x["labels"]) + a["alpha"] * soft


def tf_kd_self(x):
    a, (student, teacher) = x.arguments, logits(x)
    soft = a["temperature"] ** 2 * losses.kl(student, teacher, a["temperature"])
    soft = a["multiplier"] / 10 * soft
    return (1 - a["alpha"]) * F.cross_entropy(student, x["labels"]) + a["alpha"] * soft


def mlkd_as_released(x):
    """The released sum over two views, with its faults; see the case's note."""
    a = x.arguments
    weak, strong = logits(x), (x["student_logits_2"], x["teacher_logits_2"])
    confidence = F.softmax(weak[1], dim=1).detach().numpy()
    unsure, rare = (
        float((c <= np.percentile(c, 50)).mean()) for c in (confidence.max(1), confidence.sum(0))
    )
    soft = torch.zeros((), dtype=torch.float64)
    for t in TEMPERATURES:
        batch, classes = losses.gram_distance(*weak, t)
        faulty = weak if t in (2.0, 6.0) else strong
        instance = unsure * losses.kl(*weak, t) + losses.kl(*faulty, t)
        soft = soft + t**2 * instance + unsure * batch + rare * classes
    task = sum(F.cross_entropy(z, x["labels"]) for z in (weak[0], strong[0]))
    return a["task_weight"] * task + a["soft_weight"] * soft


def ikl(x):
    a = x.arguments
    soft = losses.soft_cross_entropy(*(z / a["temperature"] for z in logits(x)))
    return a["alpha"] * soft + a["beta"] * losses.logit_variance(*logits(x), a["T2"])


def wsld(x):
    a = x.arguments
    soft = losses.weighted_soft_cross_entropy(*logits(x), x["labels"], a["temperature"])
    return a["alpha"] * a["temperature"] ** 2 * soft


def rld(x):
    a = x.arguments
    temperatures = a["temperature"], a["alpha_temperature"]
    scd, mcd = losses.refined_kl(*logits(x), x["labels"], *temperatures)
    return a["alpha"] * temperatures[1] ** 2 * scd + a["beta"] * temperatures[0] ** 2 * mcd


def abkd(x):
    a = x.arguments
    return losses.alpha_beta_divergence(*logits(x), a["alpha"], a["beta"], a["temperature"])


def dhkd(x):
    temperature = x.arguments["temperature"]
    return temperature**2 * losses.binary_kl(*logits(x), temperature)


def ofa(x):
    a = x.arguments
    return losses.enhanced_cross_entropy(*logits(x), x["labels"], a["eps"], a["temperature"])


#: What computes a case, by the part of its name before the first colon.
BY_FAMILY = {
    "nkd": nkd,
    "dist": dist,
    "ls-kd": ls_kd,
    "normkd": lambda x: losses.normalised_kl(*logits(x), x.arguments["T_norm"]),
    "ttm": lambda x: losses.transformed_kl(*logits(x), x.arguments["gamma"]),
    "wttm": lambda x: losses.weighted_transformed_kl(*logits(x), x.arguments["gamma"]),
    "ctkd": ctkd,
    "tf-kd-reg": tf_kd_reg,
    "tf-kd-self": tf_kd_self,
    "mlkd-batch": lambda x: losses.gram_distance(*logits(x), x.arguments["temperature"])[0],
    "mlkd-class": lambda x: losses.gram_distance(*logits(x), x.arguments["temperature"])[1],
    "mlkd-as-released": mlkd_as_released,
    "ikl": ikl,
    "wsld": wsld,
    "rld": rld,
    "abkd": abkd,
    "dhkd-binary-kl": dhkd,
    "ofa": ofa,
    "annealing-kd": lambda x: losses.logit_mse(
        x["student_logits"], x.arguments["phi"] * x["teacher_logits"]
    ),
}
COMPUTE = {case: BY_FAMILY[f] for case in CASES if (f := case.split(":")[0]) in BY_FAMILY}


def test_every_family_has_a_case():
    assert {case.split(":")[0] for case in COMPUTE} == BY_FAMILY.keys()


@pytest.mark.parametrize("case", COMPUTE)
def test_value_and_gradient(case):
    check_case(case, COMPUTE[case])


@pytest.mark.parametrize("case", [case for case in COMPUTE if case.startswith("ctkd")])
def test_the_temperature_gets_the_reversed_gradient(case):
    for expected in CASES[case]["values"]:
        x = Inputs(CASES[case], expected["seed"], expected["scale"])
        a = x.arguments
        raw = torch.tensor(a["raw"], dtype=torch.float64, requires_grad=True)
        moved = losses.scale_gradient(raw, a["lambda"])
        temperature = a["t_start"] + a["t_end"] * moved.sigmoid()
        losses.tempered_kl(*logits(x), temperature).backward()
        assert temperature.item() == pytest.approx(expected["temperature"][0])
        assert raw.grad.item() == pytest.approx(expected["raw_gradient"][0], rel=1e-6)
