"""Reference values of the losses on features and relations."""

import pytest
import torch
from support.golden import CASES, Inputs, check_case
from torch.nn import functional as F

from kdbench import losses


def wkd(x: Inputs) -> torch.Tensor:
    arguments = x.arguments
    mean, deviation = losses.wasserstein(
        x["student"], x["teacher"], arguments["grid"], arguments["eps"]
    )
    return arguments["ratio"] * mean + deviation


def vid(x: Inputs, predicted: torch.Tensor) -> torch.Tensor:
    variance = F.softplus(x["parameter:log_scale"]) + x.arguments["eps"]
    return losses.gaussian_nll(predicted, x["teacher"], variance)


def vid_early(x: Inputs) -> torch.Tensor:
    first, second, third = (x[f"parameter:regressor_{i}"] for i in (1, 2, 3))
    hidden = F.conv2d(F.conv2d(x["student"], first).relu(), second).relu()
    return vid(x, F.conv2d(hidden, third))


COMPUTE = {
    "pkt": lambda x: losses.affinity_kl(x["student"], x["teacher"]),
    "pkt:wide-student": lambda x: losses.affinity_kl(x["student"], x["teacher"]),
    "cc-author": lambda x: losses.correlation_congruence(x["student"], x["teacher"]),
    "cc-rbf:gamma=0.4,order=2": lambda x: losses.rbf_mse(x["student"], x["teacher"], 0.4, 2),
    "nst": lambda x: losses.selectivity(x["student"], x["teacher"]),
    "nst:early-to-wide": lambda x: losses.selectivity(x["student"], x["teacher"]),
    "ickd:no-embedding": lambda x: losses.channel_correlation(x["student"], x["teacher"]),
    "ickd:self": lambda x: losses.channel_correlation(x["student"], x["teacher"]),
    "vid:no-regressor": lambda x: vid(x, x["student"]),
    "vid:early": vid_early,
    "wkd-f:grid=1,ratio=4": wkd,
    "wkd-f:grid=2,ratio=4,early": wkd,
}
#: The methods whose cases stand in this file.
METHODS = ("pkt", "cc", "cc-rbf", "nst", "ickd", "vid", "wkd-f")


def test_every_case_is_computed():
    families = (*METHODS, "cc-author")
    assert COMPUTE.keys() == {case for case in CASES if case.split(":")[0] in families}


@pytest.mark.parametrize("case", COMPUTE)
def test_reference(case):
    check_case(case, COMPUTE[case])
