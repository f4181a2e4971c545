"""Reference values of the losses on features and relations."""

import pytest
import torch
from support.golden import CASES, Inputs, check_case
from torch.func import functional_call
from torch.nn import functional as F

from kdbench import losses
from kdbench.methods.calibration import Calibration
from kdbench.methods.mgd import generation
from kdbench.methods.review import Review


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


def vkd(x: Inputs) -> torch.Tensor:
    n = x["teacher"].shape[1]
    rows, columns = torch.arange(n).double().view(-1, 1), torch.arange(n).double()
    basis = (2 / n) ** 0.5 * (torch.pi * (2 * columns + 1) * rows / (2 * n)).cos()
    basis[0] /= 2**0.5
    return losses.normalised_smooth_l1(x["student"] @ basis[: x["student"].shape[1]], x["teacher"])


def srd(x: Inputs) -> torch.Tensor:
    weight, bias = x["parameter:projector_weight"], x["parameter:projector_bias"]
    return losses.log_power_error(F.linear(x["student"], weight, bias), x["teacher"])


def mgd(x: Inputs) -> torch.Tensor:
    parts = {
        f"{name}.{part}": x[f"parameter:{key}_{part}"]
        for name, key in (("align", "align"), ("0", "generation_1"), ("2", "generation_2"))
        for part in ("weight", "bias")
    }
    aligned = F.conv2d(x["student"], parts.pop("align.weight"), parts.pop("align.bias"))
    masked = aligned * (x["uniform"] >= x.arguments["mask_share"])
    return losses.feature_sse(functional_call(generation(12), parts, masked), x["teacher"])


def review(x: Inputs) -> torch.Tensor:
    names = {
        "conv1": "reduce.0.weight", "bn1_weight": "reduce.1.weight", "bn1_bias": "reduce.1.bias",
        "conv2": "expand.0.weight", "bn2_weight": "expand.1.weight", "bn2_bias": "expand.1.bias",
        "att_weight": "attend.weight", "att_bias": "attend.bias",
    }  # fmt: skip
    pyramid = Review([(12, 4, 4), (32,)], [(20, 4, 4), (48,)])
    parts = {}
    for key in (k for k in x if k.startswith("parameter:abf")):
        level, name = key.removeprefix("parameter:abf").split("_", 1)
        parts[f"fusions.{1 - int(level)}.{names[name]}"] = x[key]
    maps = [x["student_map"], x["student_embedding"]]
    reviewed = functional_call(pyramid.double(), parts, (maps,))
    teachers = x["teacher_map_wide"], x["teacher_embedding_wide"][:, :, None, None]
    return torch.stack(
        [losses.hierarchical_context(s, t) for s, t in zip(reviewed, teachers, strict=True)]
    ).sum()


def semckd(x: Inputs) -> torch.Tensor:
    maps = [[x["student_map_early"], x["student_map"]], [x["teacher_map_early"], x["teacher_map"]]]
    module = Calibration([6, 12], [6, 12], width=8).double()
    return losses.calibrated_mse(*functional_call(module, calibration_parts(x), tuple(maps)))


def calibration_parts(x: Inputs) -> dict[str, torch.Tensor]:
    """The case's parameters under the names of the module."""
    layers = {"conv1": "0", "bn1": "1", "conv2": "3", "bn2": "4", "conv3": "6"}
    parts = {}
    for key in (k for k in x if k.startswith("parameter:")):
        kind, index, *rest = key.removeprefix("parameter:").split("_")
        if kind == "regressor":
            i, j = index
            name = ".".join([layers[rest[0]], *(rest[1:] or ["weight"])])
            parts[f"projections.{2 * int(i) + int(j)}.{name}"] = x[key]
        else:
            layer = {"linear1": "0", "linear2": "2"}[rest[0]]
            parts[f"{'queries' if kind == 'query' else 'keys_of'}.{index}.{layer}.{rest[1]}"] = x[
                key
            ]
    return parts


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
    "vkd:wide-teacher": vkd,
    "srd:wide-teacher": srd,
    "mgd:lambda=0.15": mgd,
    "ft-author": lambda x: losses.factor_l1(x["student_pre"], x["teacher_pre"]),
    "ft-repdistiller": lambda x: losses.factor_attention_l1(x["student_pre"], x["teacher_pre"]),
    "nd": lambda x: losses.norm_and_direction(
        x["student"], x["teacher"], x["parameter:class_means"], x["labels"]
    ),
    "reviewkd:two-levels": review,
    "semckd": semckd,
}
#: What the names of the cases in this file begin with.
FAMILIES = (
    "pkt", "cc-author", "cc-rbf", "nst", "ickd", "vid", "wkd-f", "vkd", "srd", "mgd", "ft-author",
    "ft-repdistiller", "nd", "reviewkd", "semckd",
)  # fmt: skip


def test_every_case_is_computed():
    assert COMPUTE.keys() == {case for case in CASES if case.split(":")[0] in FAMILIES}


@pytest.mark.parametrize("case", COMPUTE)
def test_reference(case):
    check_case(case, COMPUTE[case])
